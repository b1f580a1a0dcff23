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

// raw is the encoding of values, which are bytes here. Values that the client can't decrypt
// never come to it: any text would take the bytes that are stored of them.
type raw struct{}

// Marshal implements [etcd.Encoding].
func (raw) Marshal(data []byte) ([]byte, error) { return data, nil }

// Unmarshal implements [etcd.Encoding].
func (raw) Unmarshal(data []byte) ([]byte, error) { return data, nil }

// revision is what one revision has changed.
type revision struct {
	number  int64
	changes []change
}

// follower returns the state under a name, and yields each revision after it, until ctx or
// the source ends.
type follower func(ctx context.Context) (source, state, iter.Seq[revision], error)
