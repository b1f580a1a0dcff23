package discovery

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/blueprint-go/etcd"
)

// lookAgain is how often the key is read although nothing was told of it: a restore of the
// cluster may be impossible to tell.
const lookAgain = time.Minute

// Those who fight over a key do so with pauses: after some losses, the instance has to stand for
// a while until the next one is healed at once.
const (
	quarrel = 20
	steady  = time.Second
)

// run looks after the key until the registration ends.
func (r *Registration) run() {
	for tries := 0; r.ctx.Err() == nil; tries++ {
		began := time.Now()
		err := r.safely(r.follow)
		if errors.Is(err, etcd.ErrClosed) {
			r.end(etcd.ErrClosed) // the client
		}
		if r.ctx.Err() != nil {
			break
		}
		if err != nil {
			r.status.doubtful(err)
		}
		if time.Since(began) > longestPause {
			tries = 0
		}
		pause(r.ctx, backoff(tries))
	}
	if !errors.Is(context.Cause(r.ctx), errClosed) {
		r.abandon() // nobody else does
	}
}

// safely turns a panic, which only a hook can cause, into an error: nobody would recover it
// here.
func (r *Registration) safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.status.logger.Error("etcd: panic of a hook in a registration", slog.Any("panic", p))
			err = errPanicked
		}
	}()
	return f()
}

// patrol is one watch of the key, and what is to be done about it.
type patrol struct {
	*Registration
	watch  etcd.WatchChan
	retry  *time.Timer // when the key is looked after again
	tries  int         // since the instance stood for a while
	stands time.Time   // since when it does
	held   bool        // it is to be looked after when retry says so, and not before
}

// follow watches the key and heals it, until the watch ends.
func (r *Registration) follow() error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	p := &patrol{Registration: r, retry: time.NewTimer(lookAgain)}
	defer p.retry.Stop()
	p.watch = r.client.Watch(ctx, r.key, etcd.WithWatchStatus())
	p.heal(true) // what has happened before the watch
	for {
		select {
		case <-ctx.Done():
			return nil
		case resp, ok := <-p.watch:
			if !ok {
				return nil
			}
			if err := p.seen(resp); err != nil {
				return err
			}
		case <-p.leaseLost():
			p.heal(false)
		case <-p.wanted:
			p.heal(false)
		case <-p.retry.C:
			p.heal(true)
		}
		if p.ctx.Err() != nil {
			return nil
		}
	}
}

// leaseLost returns what is closed when the lease that the key is attached to is lost; nil if it
// is lost, or there is none.
func (p *patrol) leaseLost() <-chan struct{} {
	p.turn <- struct{}{}
	defer p.pass()
	if p.session == nil || p.session.Context().Err() != nil {
		return nil
	}
	return p.session.Context().Done()
}

// seen acts on what the watch tells.
func (p *patrol) seen(resp etcd.WatchResponse) error {
	switch {
	case resp.Err() != nil:
		return resp.Err()
	case resp.State == etcd.WatchInterrupted:
		p.status.doubtful(resp.Cause)
	case resp.State == etcd.WatchResumed:
		p.heal(true) // the cluster may be another one
	case len(resp.Events) > 0:
		p.changed(resp.Events[len(resp.Events)-1])
	}
	return nil
}

// changed acts on the newest change of the key.
func (p *patrol) changed(ev *etcd.Event) {
	p.turn <- struct{}{}
	known := p.revision
	if ev.Kv.ModRevision > known && ev.Type == etcd.EventDelete {
		p.revision = 0
		p.status.lost(errDeleted)
	}
	p.pass()
	if ev.Kv.ModRevision <= known {
		return // a put of this registration, mostly
	}
	switch {
	case p.held:
	case p.tries > quarrel && time.Since(p.stands) < steady:
		p.held = true
		p.retry.Reset(backoff(p.tries - quarrel))
	default:
		p.heal(true)
	}
}

// heal has the instance stand, after a look at the key if there is doubt. If that fails, it is
// tried again.
func (p *patrol) heal(look bool) {
	if time.Since(p.stands) > steady && p.Status().Registered {
		p.tries = 0
	}
	p.held = false
	err := p.safely(func() error {
		if err := p.take(p.ctx); err != nil {
			return err
		}
		defer p.pass()
		if cause := p.lostLease(); cause != nil && !errors.Is(cause, etcd.ErrClosed) {
			p.status.lost(cause)
		}
		if look {
			if err := p.verify(p.ctx); err != nil {
				return err
			}
		}
		return p.stand(p.ctx)
	})
	if err == nil {
		p.stands = time.Now()
		p.tries++
		p.retry.Reset(jittered(lookAgain))
		return
	}
	switch {
	case p.ctx.Err() != nil:
		return
	case errors.Is(err, etcd.ErrClosed):
		p.end(etcd.ErrClosed)
	case p.Status().Registered:
		p.status.doubtful(err)
	default:
		p.status.lost(err)
	}
	p.retry.Reset(backoff(p.tries))
	p.tries++
}

// lostLease returns why the lease is lost that the key is attached to; nil if it isn't. The turn
// is taken.
func (r *Registration) lostLease() error {
	if r.session == nil {
		return nil
	}
	return context.Cause(r.session.Context())
}

// sweepTime is how long a request that was sent may take to arrive: longer than a server keeps
// one, and than a connection lasts on which nothing comes back.
const sweepTime = 2 * time.Minute

// sweep removes what a registration that has ended left behind, or what a request of it may
// still put. It ends after sweepTime, or with the client.
func (r *Registration) sweep() {
	ctx, cancel := context.WithTimeout(r.base, sweepTime)
	defer cancel()
	defer context.AfterFunc(r.client.Raw().Ctx(), cancel)()
	for tries := 0; ctx.Err() == nil; tries++ {
		err := r.safely(func() error { return r.sweepBy(ctx) })
		if errors.Is(err, etcd.ErrClosed) || !pause(ctx, backoff(tries)) {
			return
		}
	}
}

func (r *Registration) sweepBy(ctx context.Context) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := r.client.Watch(watching, r.key, etcd.WithOnly(etcd.EventPut))
	for {
		if err := r.take(ctx); err != nil {
			return err
		}
		r.doubt = true
		err := r.remove(ctx)
		r.pass()
		if err != nil {
			return err
		}
		resp, ok := <-watch
		if !ok {
			return nil
		}
		if resp.Err() != nil {
			return resp.Err()
		}
	}
}
