package etcd

import (
	"errors"
)

// watchFailure returns what the error of a stream means, and says it in the words
// of this package.
func watchFailure(err error) (verdict, error) {
	var ended *watchEnded
	if errors.As(err, &ended) {
		return ended.answer, ended.err
	}
	a := interpret(err)
	return a, describe(a.kind, err)
}

// watchEnded is the end of a watch in the server's words.
type watchEnded struct {
	answer verdict
	err    error
}

func (e *watchEnded) Error() string { return e.err.Error() }
