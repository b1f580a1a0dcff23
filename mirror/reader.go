package mirror

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"

	"github.com/blueprint-go/etcd"
)

// reader is a loop over changes. The mirror's lock guards what is below opts.
type reader struct {
	mirror *Mirror
	ctx    context.Context
	opts   changesOptions
	taken  atomic.Bool // by a loop

	queue [][]record
	bytes int
	// lost is the state after which nothing was queued; nil if all was. The differences
	// from there follow the queue.
	lost     *state
	existing bool // lost is the state before everything
	wake     chan struct{}
	forget   func() bool
}

// newReader registers a reader for what happens from now on.
func (m *Mirror) newReader(ctx context.Context, opts []ChangesOption) (*reader, error) {
	if ctx == nil {
		return nil, etcd.ErrNilContext
	}
	r := &reader{mirror: m, ctx: ctx, wake: make(chan struct{}, 1)}
	r.opts.buffer = DefaultChangesBuffer
	if err := optionsOf(opts, &r.opts, ChangesOption.applyChanges); err != nil {
		return nil, err
	}
	if err := r.opts.check(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended != nil {
		return nil, m.ended
	}
	if r.existing = r.opts.existing; r.existing {
		r.lost = newState(m.prefix, m.applied.table.seed, 0)
	}
	m.readers[r] = struct{}{}
	r.forget = context.AfterFunc(ctx, r.drop)
	return r, nil
}

// leave ends what the mirror keeps for the reader.
func (r *reader) leave() {
	r.forget()
	r.drop()
}

func (r *reader) drop() {
	r.mirror.mu.Lock()
	defer r.mirror.mu.Unlock()
	delete(r.mirror.readers, r)
	r.queue, r.lost = nil, nil
}

// add queues records, which are the changes since a state. m.mu is held.
func (r *reader) add(since *state, records []record) {
	if len(records) == 0 || r.lost != nil {
		return
	}
	size := 0
	for i := range records {
		size += records[i].bytes()
	}
	if len(r.queue) > 0 && r.bytes+size > r.opts.buffer {
		r.lose(since)
		return
	}
	r.queue, r.bytes = append(r.queue, records), r.bytes+size
	r.signal()
}

// lose notes that the changes since a state are not queued. m.mu is held.
func (r *reader) lose(since *state) {
	if r.lost == nil {
		r.lost = since
	}
	r.signal()
}

func (r *reader) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// next waits for the next records, whole revisions. It returns an error if the mirror has
// ended, and nothing if ctx has.
func (r *reader) next() (iter.Seq[record], error) {
	for {
		records, err := r.take()
		if records != nil || err != nil || r.ctx.Err() != nil {
			return records, err
		}
		select {
		case <-r.wake:
		case <-r.ctx.Done():
		case <-r.mirror.ctx.Done():
		}
	}
}

// take returns what waits.
func (r *reader) take() (iter.Seq[record], error) {
	m := r.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.ended != nil:
		return nil, m.ended
	case r.ctx.Err() != nil:
		return nil, nil
	case len(r.queue) > 0:
		records := r.queue[0]
		r.queue[0], r.queue = nil, r.queue[1:]
		for i := range records {
			r.bytes -= records[i].bytes()
		}
		return together(records), nil
	case r.lost != nil:
		from, found := r.lost, !r.existing
		r.lost, r.existing = nil, false
		return differences(from, m.applied, found), nil
	}
	return nil, nil
}

// run yields changes until the loop is left, ctx ends or the mirror does. It returns why
// the mirror has ended.
func (r *reader) run(yield func(record) bool) error {
	if !r.taken.CompareAndSwap(false, true) {
		return nil
	}
	defer r.leave()
	for {
		records, err := r.next()
		if records == nil {
			return err
		}
		if r.opts.expiry {
			records = withExpiry(records, r.isGone)
		}
		for rec := range records {
			if r.ctx.Err() != nil {
				return nil
			}
			if r.mirror.ctx.Err() != nil {
				break // next says why
			}
			if !yield(rec) {
				return nil
			}
		}
	}
}

// isGone reports whether a lease no longer exists.
func (r *reader) isGone(lease etcd.LeaseID) bool {
	_, err := r.mirror.client.TimeToLive(r.ctx, lease)
	return errors.Is(err, etcd.ErrLeaseNotFound)
}
