package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/blueprint-go/etcd"
)

// Fresh waits until the mirror holds everything that was acknowledged to anyone before
// the call: reads after it are as linearizable as the server's. It usually takes one round
// trip, whose request goes through no disk; calls that meet share it, however many they
// are. Where the servers don't report progress (see [Mirror.WaitFor]) it takes some 250 ms
// if other keys have changed.
//
// It fails with the error of ctx, with that of the read, with [etcd.ErrClosed], and with
// [etcd.ErrRevisionRegressed] if the cluster was restored to an older revision: the mirror
// is then loaded again, and a later call succeeds.
func (m *Mirror) Fresh(ctx context.Context) error {
	if ctx == nil {
		return m.fail(opFresh, etcd.ErrNilContext)
	}
	r, err := m.join()
	if err != nil {
		return m.fail(opFresh, err)
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return m.fail(opFresh, m.late(ctx))
	}
	if r.err != nil {
		return m.fail(opFresh, r.err)
	}
	if err := m.await(ctx, opFresh, r.revision); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.confirm(r.began)
	return nil
}

const opFresh = "freshen mirror"

// round is a read of the store's revision for all calls that had begun before it.
type round struct {
	done     chan struct{}
	began    time.Time
	revision int64
	err      error
}

// rounds are those of a mirror: at most one is under way, and at most one waits for it. A
// read that began before a call proves nothing to it.
type rounds struct{ underWay, waiting *round }

// join returns the round that a call waits for, and begins it if none is under way.
func (m *Mirror) join() (*round, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.rounds
	switch {
	case m.ended != nil:
		return nil, m.ended
	case r.underWay == nil:
		r.underWay = &round{done: make(chan struct{})}
		m.begin(m.goRound)
		return r.underWay, nil
	case r.waiting == nil:
		r.waiting = &round{done: make(chan struct{})}
	}
	return r.waiting, nil
}

// goRound makes the rounds that calls wait for, one after the other.
func (m *Mirror) goRound() {
	m.mu.Lock()
	r := m.rounds.underWay
	m.mu.Unlock()
	for r != nil {
		m.look(r)
		close(r.done)
		m.mu.Lock()
		r, m.rounds.waiting = m.rounds.waiting, nil
		m.rounds.underWay = r
		m.mu.Unlock()
	}
}

// look reads the store's revision. It asks for progress beside that: mostly the answer
// has come by the time the revision is known.
func (m *Mirror) look(r *round) {
	r.began = time.Now()
	seen := m.current.Load().revision
	if err := m.client.RequestProgress(m.ctx, 0); err != nil {
		r.err = err
		return
	}
	if r.revision, r.err = m.client.Revision(m.ctx); r.err == nil && r.revision < seen {
		r.err = etcd.ErrRevisionRegressed
		m.regressed()
	}
}

// regressed makes the mirror load again, because the history that it is in is gone.
func (m *Mirror) regressed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.restart != nil {
		m.restart(etcd.ErrRevisionRegressed)
	}
}

// verify makes a round in the background after a registration. A watch from a revision that
// a restored cluster doesn't have yet would be silent until it does.
func (m *Mirror) verify() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin(func() {
		for tries := 0; ; tries++ {
			r, err := m.join()
			if err != nil {
				return
			}
			<-r.done // a round ends with the mirror
			if r.err == nil || errors.Is(r.err, etcd.ErrRevisionRegressed) || !pause(m.ctx, backoff(tries, followBackoff)) {
				return
			}
		}
	})
}
