package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

// WaitFor waits until the mirror is complete up to a revision, such as the one that
// [etcd.WithResult] returns of a write: after it, reads include that write. It returns
// at once if the mirror is. Otherwise it asks the servers for progress, which they answer
// in half a round trip once the member of the watch has applied the revision, whichever
// key it was about. Servers before 3.4.31 and 3.5.13 and grpc-proxy don't: there the mirror
// proves it by reads after 250 ms, in which the server looks at each key under the prefix.
//
// A revision that does not exist yet is waited for until it does. WaitFor fails with the
// error of ctx, with [etcd.ErrClosed], with [etcd.ErrRevisionRegressed] if the cluster was
// restored to an older revision meanwhile, and with [etcd.ErrInvalidArgument] for a
// negative revision.
func (m *Mirror) WaitFor(ctx context.Context, revision int64) error {
	if ctx == nil {
		return m.fail(opWait, etcd.ErrNilContext)
	}
	if revision < 0 {
		return m.fail(opWait, fmt.Errorf("%w: negative revision", etcd.ErrInvalidArgument))
	}
	return m.await(ctx, opWait, revision)
}

const opWait = "wait for mirror"

// proveAfter is how long a wait lasts before reads are to prove what progress should have
// told. It doubles up to maxProveAfter.
const (
	proveAfter    = 250 * time.Millisecond
	maxProveAfter = 4 * time.Second
)

func (m *Mirror) await(ctx context.Context, op string, revision int64) error {
	w, err := m.newWaiter(revision)
	if err != nil {
		return m.fail(op, err)
	}
	if w == nil {
		return nil
	}
	defer m.leave(w)
	// It fails only with the context or the client, whose ends are noticed below.
	_ = m.client.RequestProgress(ctx, revision)
	for patience := proveAfter; ; patience = min(2*patience, maxProveAfter) {
		timer := time.NewTimer(patience)
		select {
		case err := <-w.told:
			timer.Stop()
			if err != nil {
				return m.fail(op, err)
			}
			return nil
		case <-ctx.Done():
			timer.Stop()
			return m.fail(op, m.late(ctx))
		case <-timer.C:
			m.prove()
		}
	}
}

// newWaiter returns nil if the mirror is complete up to revision.
func (m *Mirror) newWaiter(revision int64) (*waiter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended != nil {
		return nil, m.ended
	}
	if m.current.Load().revision >= revision {
		return nil, nil //nolint:nilnil // nothing to wait for
	}
	w := &waiter{revision: revision, told: make(chan error, 1)}
	m.waiters[w] = struct{}{}
	return w, nil
}

func (m *Mirror) leave(w *waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.waiters, w)
}

// late returns the error of a call whose context ended, and why the mirror was behind.
func (m *Mirror) late(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", etcd.ErrTimeout, ctx.Err())
	}
	if s := m.Status(); !s.Connected {
		return fmt.Errorf("%w (%w)", err, s.Cause)
	}
	return err
}
