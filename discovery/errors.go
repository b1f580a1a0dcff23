package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"

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

// as returns what has failed, some of which may be nil, as the error of a call of this package: an
// error of a request says what was asked of a service or a key, and keeps everything else. It
// returns nil if nothing has failed.
func as(op, key string, errs ...error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		if failed, ok := errs[0].(*etcd.Error); ok { //nolint:errorlint // one that is joined to others stays
			named := *failed
			named.Op, named.Key = op, key
			return &named
		}
		return fail(op, key, errs[0])
	}
	return fail(op, key, errors.Join(errs...))
}

// ended returns the error of a call whose context has ended.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", etcd.ErrTimeout, ctx.Err())
	}
	return context.Cause(ctx)
}
