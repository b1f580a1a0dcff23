package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/blueprint-go/etcd"
)

// follow keeps the mirror up to date until the mirror or its client is closed. What ends a
// watch otherwise is told in the status and tried again: it may pass, and until then the
// last state is better than none.
func (m *Mirror) follow() {
	defer m.reads.release()
	tries := 0 // since a watch was registered
	for {
		err := m.watch(&tries)
		if m.ctx.Err() != nil {
			return
		}
		if errors.Is(err, etcd.ErrClosed) {
			m.end(err)
			return
		}
		m.interrupted(err)
		if errors.Is(err, etcd.ErrCompacted) || errors.Is(err, etcd.ErrRevisionRegressed) {
			if err = m.resync(); err != nil {
				m.interrupted(err)
			}
		}
		if (err != nil || tries > 0) && !m.rest(backoff(tries, followBackoff)) {
			m.end(etcd.ErrClosed) // the client, unless the mirror was
			return
		}
		tries++
	}
}

// rest waits for d before the next try, and reports whether the mirror and its client live.
// No watch tells of the client meanwhile.
func (m *Mirror) rest(d time.Duration) bool {
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	defer context.AfterFunc(m.client.Raw().Ctx(), cancel)()
	return pause(ctx, d)
}

// watch applies what comes until the watch ends, and returns why it did. It resets tries
// when the watch is registered.
func (m *Mirror) watch(tries *int) error {
	ctx, cancel := context.WithCancelCause(m.ctx)
	defer cancel(nil)
	m.mu.Lock()
	m.restart = cancel
	from := m.applied.revision + 1
	m.mu.Unlock()
	opts := []etcd.WatchOption{etcd.WithRevision(from), etcd.WithWatchStatus(), etcd.WithProgressNotify()}
	if m.prefix == "" {
		opts = append(opts, etcd.WithAllKeys())
	}
	for resp := range m.client.WatchPrefix(ctx, m.prefix, opts...) {
		switch {
		case resp.Err() != nil:
			return resp.Err()
		case resp.State == etcd.WatchInterrupted:
			m.interrupted(resp.Cause)
		case resp.State != etcd.WatchEvents:
			*tries = 0
			m.connected()
			m.verify()
		default:
			m.apply(resp)
		}
	}
	return context.Cause(ctx)
}

// resync loads everything again. The readers of changes get the differences.
func (m *Mirror) resync() error {
	m.mu.Lock()
	before := m.applied
	m.mu.Unlock()
	began := time.Now()
	next, err := m.load(m.ctx, before)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.confirm(began)
	m.mu.Unlock()
	m.install(next)
	return nil
}

// install takes over a state that was loaded. Readers of changes get the differences.
func (m *Mirror) install(next *state) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Resyncs++
	for r := range m.readers {
		r.lose(m.applied)
	}
	wentBack := next.revision < m.current.Load().revision
	m.applied = next
	m.show(next)
	if wentBack {
		for w := range m.waiters {
			w.tell(etcd.ErrRevisionRegressed)
		}
	}
	m.mendLocked()
}

// apply applies a response of the watch.
func (m *Mirror) apply(resp etcd.WatchResponse) {
	extras := make([]any, len(resp.Events)) // the application's code is called without the lock
	for i, ev := range resp.Events {
		if ev.Type == etcd.EventPut && !ev.IsClaim() {
			extras[i] = m.extraOf(ev)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.applied
	var d *draft
	var records []record
	for i, ev := range resp.Events {
		if ev.Kv.ModRevision <= before.revision {
			continue // etcd-io/etcd#20221: it may come twice
		}
		if d == nil {
			d = before.draft()
		}
		if r, changed := d.apply(ev, extras[i]); changed && len(m.readers) > 0 {
			records = append(records, r)
		}
	}
	next := before
	if d != nil {
		next = d.done()
	}
	if resp.Revision > next.revision {
		next = next.at(resp.Revision)
	}
	if len(resp.Events) == 0 || next.revision >= m.head {
		m.confirm(time.Now())
	}
	if next == before {
		return
	}
	for r := range m.readers {
		r.add(before, records)
	}
	m.publish(next)
	m.mendLocked()
}

// extraOf returns the extra of the entry that an event puts.
func (m *Mirror) extraOf(ev *etcd.Event) any {
	if ev.Kv.Value == nil {
		return undecodable{ev.Err}
	}
	return m.extra(*ev.Kv, nil)
}

// apply applies an event and returns the change that it makes. It makes none if it is
// about the claim of a lock.
func (d *draft) apply(ev *etcd.Event, extra any) (record, bool) {
	revision := ev.Kv.ModRevision
	if ev.Type == etcd.EventDelete || ev.IsClaim() {
		old := d.remove(ev.Kv.Key)
		return record{old: old, revision: revision}, old != nil
	}
	e := d.newEntry(*ev.Kv, extra)
	return record{old: d.put(e), new: e, revision: revision}, true
}
