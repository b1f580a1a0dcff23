package mirror

import (
	"context"
	"errors"

	"github.com/blueprint-go/etcd"
)

// Fresh waits until the mirror holds everything that was acknowledged to anyone before
// the call: reads after it are as linearizable as the server's. It usually takes one round
// trip, of a request that goes through no disk. Calls that meet share it, however many they
// are and on however many mirrors of a client. Where the servers don't report progress (see
// [Mirror.WaitFor]) it takes some 250 ms if other keys have changed.
//
// The read has [etcd.Config.RequestTimeout]. If ctx has a deadline, it is made again until then
// after what may pass.
//
// Fresh fails with the error of ctx, with that of the read, with [etcd.ErrClosed], and with
// [etcd.ErrRevisionRegressed] if the cluster was restored to an older revision: the mirror
// is then loaded again, and a later call succeeds.
func (m *Mirror) Fresh(ctx context.Context) error {
	if ctx == nil {
		return m.fail(opFresh, etcd.ErrNilContext)
	}
	r, err := m.look(ctx)
	if _, bounded := ctx.Deadline(); bounded {
		for tries := 0; etcd.IsRetryable(err) && pause(ctx, backoff(tries, loadBackoff)); tries++ {
			r, err = m.look(ctx)
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return m.fail(opFresh, m.late(ctx))
	case err != nil:
		return m.fail(opFresh, err)
	}
	if err := m.await(ctx, opFresh, r.revision); err != nil {
		return err
	}
	m.confirmUpTo(r)
	return nil
}

// confirmUpTo notes that the mirror was complete when a read of the store's revision began, if
// it is by now.
func (m *Mirror) confirmUpTo(r *round) {
	if m.Revision() < r.revision {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.confirm(r.began)
}

const opFresh = "freshen mirror"

// look waits for a read of the store's revision that begins after the call.
func (m *Mirror) look(ctx context.Context) (*round, error) {
	m.mu.Lock()
	ended := m.ended
	m.mu.Unlock()
	if ended != nil {
		return nil, m.fail(opFresh, ended)
	}
	seen := m.Revision()
	r := m.reads.join()
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, m.fail(opFresh, m.late(ctx))
	case <-m.ctx.Done():
		return nil, m.fail(opFresh, context.Cause(m.ctx))
	}
	if r.err == nil && r.revision < seen {
		m.regressed()
		return nil, m.fail(opFresh, etcd.ErrRevisionRegressed)
	}
	m.reads.behind.Store(m.Revision() < r.revision)
	return r, r.err
}

// verify makes a round in the background after a registration. A watch from a revision that
// a restored cluster doesn't have yet would be silent until it does.
func (m *Mirror) verify() {
	m.mu.Lock()
	defer m.mu.Unlock()
	registration := m.registrations
	m.begin(func() {
		for tries := 0; ; tries++ {
			r, err := m.look(m.ctx)
			if err == nil {
				m.registeredAt(registration, r.revision)
				m.confirmUpTo(r)
			}
			if err == nil || errors.Is(err, etcd.ErrRevisionRegressed) || !pause(m.ctx, backoff(tries, followBackoff)) {
				return
			}
		}
	})
}

// registeredAt notes the store's revision after a registration, unless another one followed.
func (m *Mirror) registeredAt(registration int, revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if registration == m.registrations {
		m.head = revision
	}
}
