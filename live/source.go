package live

import (
	"context"
	"iter"
	"time"
)

// source is where states come from.
type source interface {
	// status returns how good the connection is.
	status() connection
	// close ends the source, and the revisions that it yields.
	close()
}

// connection says how good a source is.
type connection struct {
	connected bool
	since     time.Time
	cause     error
	confirmed time.Time
}

// revision is what one revision has changed.
type revision struct {
	number  int64
	changes []change
}

// follower returns the state under a name, and yields each revision after it, until ctx or
// the source ends.
type follower func(ctx context.Context) (source, state, iter.Seq[revision], error)
