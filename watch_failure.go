package etcd

import (
	"errors"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// watchFailure returns what the error of a stream means, and the error in terms of this
// package.
func watchFailure(err error) (rpc.Verdict, error) {
	if judged, ok := errors.AsType[*judgedError](err); ok {
		return judged.verdict, judged.err
	}
	a := rpc.Interpret(err)
	return a, rpc.Describe(a.Kind, err)
}

// judgedError is the end of a watch whose meaning is known where it is found: what the
// server writes into a stream has no status to be interpreted later.
type judgedError struct {
	verdict rpc.Verdict
	err     error
}

func (e *judgedError) Error() string { return e.err.Error() }

func (e *judgedError) Unwrap() error { return e.err }
