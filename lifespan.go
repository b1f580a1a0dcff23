package etcd

import (
	"context"

	"github.com/blueprint-go/etcd/internal/errs"
)

// lifespan is what locks, semaphores and elections have in common: they can be used until they
// are closed, or their client is.
type lifespan struct {
	client *Client
	// life ends by end, which is called to close.
	life context.Context
	end  context.CancelFunc
	// closedError is what calls fail with after that.
	closedError error
}

func newLifespan(c *Client, closedError error) lifespan {
	l := lifespan{client: c, closedError: closedError}
	l.life, l.end = context.WithCancel(context.Background())
	return l
}

// usable returns why a call can't begin.
func (l *lifespan) usable(ctx context.Context) error {
	if err := l.client.admit(ctx); err != nil {
		return err
	}
	if l.isClosing() {
		return l.closedReason()
	}
	if ctx.Err() != nil {
		return errs.OfContext(ctx)
	}
	return nil
}

// isClosing reports whether it or its client was closed.
func (l *lifespan) isClosing() bool { return l.life.Err() != nil || l.client.rpc.IsClosed() }

// closedReason returns an error for what was closed: it, or its client.
func (l *lifespan) closedReason() error {
	if l.client.rpc.IsClosed() {
		return ErrClosed
	}
	return l.closedError
}
