package etcd

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// offline returns renewals of a client that has no server; what it is asked to renew
// waits.
func offline(t testing.TB) *renewals {
	t.Helper()
	return newRenewals(&conn{cfg: &Config{Logger: slog.New(slog.DiscardHandler)}, rpc: rpc.NewConn(rpc.Params{})})
}

func TestSessionEndsBeforeItsLeaseMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := offline(t).beginSession(1, time.Now(), 2*time.Second, sessionMargin(2*time.Second))
		<-time.After(time.Second)
		s.renewed(time.Now().Add(-500*time.Millisecond), 2*time.Second) // when it was sent
		<-time.After(1300*time.Millisecond - 1)
		synctest.Wait()
		require.NoError(t, s.ctx.Err())
		require.True(t, s.alive())
		<-time.After(time.Nanosecond)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(s.ctx), ErrLeaseLost)
		require.False(t, s.alive())
	})
}

func TestSessionEndsInTimeEvenIfUnnoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := offline(t).beginSession(1, time.Now(), 2*time.Second, sessionMargin(2*time.Second))
		s.expiry.Stop() // a paused process: its timers come late
		<-time.After(1800 * time.Millisecond)
		require.NoError(t, s.ctx.Err())
		require.False(t, s.alive())
	})
}

// pausedHolder returns a lock whose time has passed while its process was paused, so that no
// timer has told of it.
func pausedHolder(t *testing.T) *Lock {
	t.Helper()
	r := offline(t)
	s := r.beginSession(1, time.Now(), 2*time.Second, sessionMargin(2*time.Second))
	c := &claim{session: s}
	c.ctx, c.cancel = context.WithCancelCause(t.Context())
	s.expiry.Stop()
	return &Lock{seat: &contender{lifespan: lifespan{client: &Client{conn: r.conn}}, session: s, claim: c}}
}

func TestContextsAreRightAfterAPause(t *testing.T) {
	t.Parallel()
	for name, contextOf := range map[string]func(*Lock) context.Context{
		"session": func(l *Lock) context.Context { return (&Session{lease: l.seat.session}).Context() },
		"lock":    (*Lock).Context,
		"guard":   func(l *Lock) context.Context { return l.Guard(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := contextOf(pausedHolder(t))
				<-time.After(1800*time.Millisecond - 1)
				require.NoError(t, ctx.Err())
				<-time.After(1)
				require.ErrorIs(t, ctx.Err(), context.Canceled)
				require.ErrorIs(t, context.Cause(ctx), ErrLeaseLost)
				<-ctx.Done()
			})
		})
	}
}

func TestSessionMargin(t *testing.T) {
	t.Parallel()
	require.Equal(t, 100*time.Millisecond, sessionMargin(time.Second))
	require.Equal(t, time.Second, sessionMargin(DefaultLockTTL))
	require.Equal(t, time.Second, sessionMargin(time.Hour))
}
