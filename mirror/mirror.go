package mirror

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blueprint-go/etcd"
)

// Mirror is a copy of the keys under a prefix, kept up to date by a watch. It is safe for
// concurrent use. Make one with [Open] and end it with [Mirror.Close]; the zero value is
// not usable.
//
// Get, All, Range, Len, Revision and Snapshot read what is in memory: they take no lock
// and no request. Each reads the newest state, which is that of one revision: whoever has
// seen a change sees all that was changed with it and before it, and never an older state
// afterwards, in any goroutine. Several calls that must agree read one [Mirror.Snapshot].
//
// Values are shared by all who read them: don't modify them.
type Mirror struct {
	client *etcd.Client
	prefix string
	// decode returns what a typed mirror makes of a value; nil for others.
	decode func(etcd.KeyValue) (any, error)

	// current is what readers see.
	current atomic.Pointer[state]

	reads  *reads
	ctx    context.Context // ends with the mirror
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup // the goroutines of the mirror

	// mu guards what is below. It is held for work in memory only.
	mu sync.Mutex
	// applied is the state up to the last event or progress. It is current, unless a
	// proof has shown that current holds for a later revision, up to which events may
	// still come that cancel each other out.
	applied *state
	readers map[*reader]struct{}
	waiters map[*waiter]struct{}
	status  Status
	ended   error // why the mirror has ended
	restart context.CancelCauseFunc
	proving bool
	mending bool
}

// Open returns a mirror of the keys that begin with prefix. It is loaded: it holds the
// state of one revision, which is no older than the call. The empty prefix is refused
// with [etcd.ErrEmptyPrefix] unless [WithAllKeys] is given.
//
// Loading takes two round trips, and then a stream, or a page for each MiB; keys are kept
// as they come. ctx bounds it, and each of its requests has [etcd.Config.RequestTimeout]
// if ctx has no deadline. After that ctx no longer matters: the mirror lives until
// [Mirror.Close], or until the client is closed. It has one goroutine. Its watch shares
// the streams of the client, so that a client may have thousands of mirrors.
//
// An undecodable value doesn't fail Open: see [Mirror.Bad]. If the key of one is
// unavailable at the moment, Open fails with [etcd.ErrKeyUnavailable].
func Open(ctx context.Context, client *etcd.Client, prefix string, opts ...Option) (*Mirror, error) {
	return open(ctx, client, prefix, nil, opts)
}

func open(ctx context.Context, client *etcd.Client, prefix string, decode func(etcd.KeyValue) (any, error), opts []Option) (*Mirror, error) {
	m := &Mirror{
		client: client, prefix: prefix, decode: decode,
		readers: map[*reader]struct{}{}, waiters: map[*waiter]struct{}{},
	}
	if err := m.check(ctx, opts); err != nil {
		return nil, m.fail(opOpen, err)
	}
	began := time.Now()
	first, err := m.load(ctx, nil)
	if err != nil {
		return nil, err
	}
	m.current.Store(first)
	m.applied = first
	m.status = Status{Since: began, Confirmed: began, Cause: errNotYet}
	// Hooks see the caller's values in the context of the watch, but not its end.
	m.ctx, m.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	m.reads = readsOf(client)
	m.mend()
	m.tasks.Add(1)
	go m.follow()
	return m, nil
}

const opOpen = "open mirror"

func (m *Mirror) check(ctx context.Context, opts []Option) error {
	if ctx == nil {
		return etcd.ErrNilContext
	}
	if m.client == nil {
		return fmt.Errorf("%w: nil client", etcd.ErrInvalidArgument)
	}
	var o options
	if err := optionsOf(opts, &o, Option.applyOpen); err != nil {
		return err
	}
	if m.prefix == "" && !o.allKeys {
		return etcd.ErrEmptyPrefix
	}
	if m.decode != nil {
		// Values without an encoding fail otherwise than by what they are given.
		_, err := m.decodeSafely(etcd.KeyValue{Key: m.prefix})
		if _, tried := errors.AsType[*etcd.DecodeError](err); !tried {
			return err
		}
	}
	return nil
}

// Get returns a key-value, and whether the key exists, in some tens of nanoseconds. A key
// whose value could not be decoded counts as missing; [Mirror.Bad] lists it.
func (m *Mirror) Get(key string) (etcd.KeyValue, bool) { return m.Snapshot().Get(key) }

// All returns the key-values in the order of their keys, all at the revision at which the
// loop begins.
func (m *Mirror) All() iter.Seq[etcd.KeyValue] { return m.Range("", "") }

// Range returns the key-values from a key up to but not including another, in the order
// of their keys, all at the revision at which the loop begins. An empty from means the
// first key, an empty to the end of all.
func (m *Mirror) Range(from, to string) iter.Seq[etcd.KeyValue] {
	return func(yield func(etcd.KeyValue) bool) { m.Snapshot().Range(from, to)(yield) }
}

// Len returns how many keys there are, without those whose values could not be decoded.
func (m *Mirror) Len() int { return m.Snapshot().Len() }

// Revision returns the revision of the store up to which the mirror is complete. It moves
// on with changes under the prefix and, about every second, with those of other keys.
// [Mirror.Fresh] and [Mirror.WaitFor] move it on at once. It goes back only if the cluster
// was restored to an older revision.
func (m *Mirror) Revision() int64 { return m.current.Load().revision }

// Snapshot returns everything at one revision, the newest.
func (m *Mirror) Snapshot() Snapshot { return Snapshot{m.current.Load()} }

// Close ends the mirror: loops over [Mirror.Changes] end, calls that wait fail with
// [etcd.ErrClosed], and so do later ones. Reads go on from what is in memory. It waits
// for the goroutines of the mirror, may be called from the body of a loop, and is
// idempotent and safe for concurrent use. It sends no request and never fails.
func (m *Mirror) Close() {
	m.end(errClosed)
	m.tasks.Wait()
}

// end ends the mirror, for the reason that is given first.
func (m *Mirror) end(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended != nil {
		return
	}
	m.ended = why
	m.status.Connected, m.status.Since, m.status.Cause = false, time.Now(), why
	m.cancel(why)
	for w := range m.waiters {
		w.tell(why)
	}
}

// begin runs f in a goroutine of the mirror, which [Mirror.Close] waits for. It reports
// whether the mirror is open. m.mu is held.
func (m *Mirror) begin(f func()) bool {
	if m.ended != nil {
		return false
	}
	m.tasks.Add(1)
	go func() {
		defer m.tasks.Done()
		f()
	}()
	return true
}

// fail returns an error of this mirror.
func (m *Mirror) fail(op string, err error) error {
	return &etcd.Error{Op: op, Key: m.prefix, Err: err}
}

// errClosed is the etcd.ErrClosed of a mirror whose client is open.
var errClosed error = closedError("mirror is closed")

type closedError string

func (e closedError) Error() string { return string(e) }

// Is reports that e is an ErrClosed.
func (closedError) Is(target error) bool { return target == etcd.ErrClosed }
