package discovery

import (
	"context"
	"errors"
	"fmt"

	"github.com/blueprint-go/etcd"
)

var (
	// ErrUnknownService says that no instance of a service is registered. [Instances] returns
	// it, and [Watch] reports it; the error names the service.
	ErrUnknownService = errors.New("no instance of the service is registered")

	// ErrDuplicateInstance says that another registration has the id, under a lease that lives.
	// [Register] returns it, and [Status.Cause] holds it while a registration that has lost its
	// id to another waits for that one to end.
	ErrDuplicateInstance = errors.New("another registration has this id")
)

// Causes of a [Status].
var (
	errNotYet      = errors.New("not registered yet")
	errDeleted     = errors.New("the key was deleted")
	errOverwritten = errors.New("the key was overwritten")
	errPanicked    = errors.New("a hook panicked")
)

// errClosed is the etcd.ErrClosed of a registration whose client is open.
var errClosed error = closedError("registration is closed")

type closedError string

func (e closedError) Error() string { return string(e) }

// Is reports that e is an ErrClosed.
func (closedError) Is(target error) bool { return target == etcd.ErrClosed }

// fail returns an error of this package about a service or a key.
func fail(op, key string, err error) error { return &etcd.Error{Op: op, Key: key, Err: err} }

// ended returns the error of a call whose context has ended.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", etcd.ErrTimeout, ctx.Err())
	}
	return context.Cause(ctx)
}
