package etcd

import (
	"errors"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// watchFailure returns what the error of a stream means, and the error in terms of this
// package.
func watchFailure(err error) (rpc.Verdict, error) {
	var ended *watchEnded
	if errors.As(err, &ended) {
		return ended.answer, ended.err
	}
	a := rpc.Interpret(err)
	return a, rpc.Describe(a.Kind, err)
}

// watchEnded is the server's reason for the end of a watch.
type watchEnded struct {
	answer rpc.Verdict
	err    error
}

func (e *watchEnded) Error() string { return e.err.Error() }
