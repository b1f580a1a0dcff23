package barrier

import (
	"errors"

	"github.com/blueprint-go/etcd"
)

var (
	// ErrHeld is returned by [Barrier.Hold] when another one holds the barrier, or the same
	// Barrier does already.
	ErrHeld = errors.New("barrier is held")

	// ErrNotHeld is returned by [Barrier.Release] when this Barrier doesn't hold it, and by
	// [Double.Leave] when this Double has not entered, or is leaving.
	ErrNotHeld = errors.New("barrier is not held")

	// ErrHolderLost is returned by [Barrier.Wait] when the holder was lost before it released
	// the barrier. The barrier stays shut until another one holds it, which it may at once,
	// and releases it.
	ErrHolderLost = errors.New("holder of the barrier was lost")

	// ErrLost is the cause of a [Barrier.Context] or [Double.Context] that ended because the
	// lease could no longer be relied upon, and the error of the Release or Leave after that. A
	// new Hold or Enter is a new place, unless the session is shared. The reason is in its chain:
	// [etcd.ErrLeaseLost] or [etcd.ErrClosed], if it is known.
	ErrLost = errors.New("place at the barrier lost")

	// ErrSize is returned by [Double.Enter] when one who came before counts on another number.
	ErrSize = errors.New("barrier of another size")

	// ErrEntered is returned by [Double.Enter] when this Double is entering or has entered.
	ErrEntered = errors.New("barrier is entered already")
)

// lostError is an ErrLost with its reason.
type lostError struct{ reason error }

func (e *lostError) Error() string { return ErrLost.Error() + ": " + e.reason.Error() }

func (e *lostError) Unwrap() []error { return []error{ErrLost, e.reason} }

var errGone = errors.New("its key is gone")

// errClosed is the etcd.ErrClosed of a barrier whose client is open.
var errClosed error = closedError("barrier is closed")

type closedError string

func (e closedError) Error() string { return string(e) }

// Is reports that e is an ErrClosed.
func (closedError) Is(target error) bool { return target == etcd.ErrClosed }
