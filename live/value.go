package live

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blueprint-go/etcd"
)

// Value is a configuration that follows etcd. It is safe for concurrent use. Make one with
// [Open] or [OpenDocument] and end it with [Value.Close]; the zero value is not usable.
type Value[T any] struct {
	client   *etcd.Client
	name     string // the prefix, or the key of the document
	document bool
	settings settings
	builder  *builder[T]
	file     *lastGood // nil for none

	// current is what readers see. Open writes it, and then run.
	current atomic.Pointer[taken[T]]

	ctx    context.Context // ends with the value
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup // the goroutines of the value

	// mu guards what is below. It is held for work in memory only.
	mu       sync.Mutex
	refused  *RejectedError // why the newest was not taken; nil if it was
	newest   *RejectedError // the newest refusal, also after a good one
	told     chan struct{}  // closed and replaced when newest is
	fileErr  error          // a *LastGoodError
	source   source         // nil before etcd was reached
	absent   error          // why it is nil
	absentAt time.Time
}

// taken is a configuration that was taken.
type taken[T any] struct {
	value    *T
	revision int64
	fromFile bool
	since    time.Time
	replaced chan struct{} // closed when another one is taken
}

// Open returns a configuration that is filled from the keys under a prefix, and follows
// them: a good one is ready when it returns. T is a struct, and each key fills a field; see
// the package comment.
//
// The prefix is taken as it is, as everywhere in the library, so that it had better end in
// a slash. The empty one is refused with [etcd.ErrEmptyPrefix] unless [WithAllKeys] is
// given. A prefix without any key is no configuration, so that deleting all of them
// changes nothing, unless there are [WithDefaults].
//
// If the first configuration is bad, Open fails with a [*RejectedError]; if etcd can't be
// read, with the error of a read. With [WithLastGood] it serves the configuration in the
// file instead, if that is good, says so in [Value.Status], and goes on trying. It then
// waits for an answer of etcd for [etcd.Config.RequestTimeout], and at most half of the time
// that ctx leaves. The client must be made with [etcd.Config.WithLazyConnect]: otherwise it
// can't be made while etcd is away.
//
// A type that can't be filled, options that contradict one another, a nil client or option
// are refused with [etcd.ErrInvalidArgument], a nil context with [etcd.ErrNilContext], and
// nothing is sent.
//
// ctx only bounds Open itself. The value lives until [Value.Close], or until the client is
// closed. It has two goroutines and a [mirror.Mirror].
func Open[T any](ctx context.Context, client *etcd.Client, prefix string, opts ...Option) (*Value[T], error) {
	return open[T](ctx, client, prefix, false, opts)
}

// OpenDocument returns a configuration that is filled from one document under one key, and
// follows it. The document is an object of JSON unless [WithUnmarshal] is given. A key that
// is missing is no configuration, even with [WithDefaults]. The user need only be allowed to
// read that key.
//
// Everything else is as for [Open].
func OpenDocument[T any](ctx context.Context, client *etcd.Client, key string, opts ...Option) (*Value[T], error) {
	return open[T](ctx, client, key, true, opts)
}

// Load returns the last good configuration, in nanoseconds: it takes no lock and no
// request. It is never nil, and each one that it returns is the state of one revision of
// etcd, whole and validated. The configuration is shared by all who read it: don't modify
// it. A reader that needs several fields that agree reads them from one Load. After Close it
// returns the last one.
func (v *Value[T]) Load() *T { return v.current.Load().value }

// Revision returns the revision of etcd that the configuration of Load is of: the one at
// which the keys were read, or that of the newest change under the prefix since. It goes
// back only if the cluster was restored to an older revision.
func (v *Value[T]) Revision() int64 { return v.current.Load().revision }

// Err returns why the newest configuration was not taken, a [*RejectedError], or nil. Then
// Load returns an older one. A good one resets it.
func (v *Value[T]) Err() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.refused == nil {
		return nil
	}
	return v.refused
}

// Close ends the value: loops over [Value.Changes] end, and Load goes on to return the last
// good configuration. It waits for the goroutines of the value, but not for functions of
// the application that block. It may be called from the body of a loop and from the
// application's functions, is idempotent and safe for concurrent use, sends nothing and
// never fails.
func (v *Value[T]) Close() {
	v.cancel(errClosed)
	v.tasks.Wait()
}

// String names the prefix or the key, and nothing of what lies there.
func (v *Value[T]) String() string { return fmt.Sprintf("live.Value(%q)", v.name) }

// fail returns an error of this value.
func (v *Value[T]) fail(op string, err error) error {
	return &etcd.Error{Op: op, Key: v.name, Err: err}
}

// errClosed is the etcd.ErrClosed of a value whose client is open.
var errClosed error = closedError("configuration is closed")

type closedError string

func (e closedError) Error() string { return string(e) }

// Is reports that e is an ErrClosed.
func (closedError) Is(target error) bool { return target == etcd.ErrClosed }
