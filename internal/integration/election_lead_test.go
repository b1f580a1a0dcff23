package integration

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestLeadRunsWhileItLeads(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"election", within(t, patience)
		reason := errors.New("the reason")
		err := c.Lead(ctx, name, []byte("value"), func(ctx context.Context) error {
			e := etcd.ElectionOf(ctx)
			require.Equal(t, e.Token(), leads(t, c, name, "value").Token)
			require.NoError(t, e.Proclaim(ctx, []byte("new")))
			leads(t, c, name, "new")
			require.NoError(t, c.Put(ctx, name+"/data", nil))
			return reason
		})
		require.ErrorIs(t, err, reason)
		nothingLeft(t, c, name)
		require.NoError(t, c.Lead(ctx, name, nil, func(context.Context) error { return nil }))
		require.Equal(t, "panic", survive(func() {
			_ = c.Lead(ctx, name, nil, func(context.Context) error { panic("panic") })
		}))
		nothingLeft(t, c, name)
	})
}

func TestLeadCampaignsAgainAfterALoss(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	var tokens []int64
	err := c.Lead(ctx, name, nil, func(ctx context.Context) error {
		tokens = append(tokens, etcd.ElectionOf(ctx).Token())
		if len(tokens) == 4 {
			return nil
		}
		require.NoError(t, second(c.Raw().Delete(ctx, leaderKey(name))))
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), etcd.ErrLockLost)
		return []error{nil, ctx.Err(), context.Cause(ctx)}[len(tokens)-1]
	})
	require.NoError(t, err)
	require.Len(t, tokens, 4)
	require.IsIncreasing(t, tokens)
	nothingLeft(t, c, name)

	fatal := errors.New("fatal")
	require.ErrorIs(t, c.Lead(ctx, name, nil, func(ctx context.Context) error {
		assert.NoError(t, second(c.Raw().Delete(ctx, leaderKey(name))))
		<-ctx.Done()
		return fatal
	}), fatal, "an error of its own ends it")
}

// Its function may have returned before the loss was noticed.
func TestLeadCampaignsAgainAfterALateNotice(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	runs := 0
	require.NoError(t, c.Lead(ctx, name, nil, func(ctx context.Context) error {
		if runs++; runs == 2 {
			return nil
		}
		return second(c.Raw().Delete(ctx, leaderKey(name)))
	}))
	require.Equal(t, 2, runs)
	nothingLeft(t, c, name)
}

func TestLeadEndsWhenItsFunctionResigns(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, reason := within(t, patience), errors.New("the reason")
	for way, resign := range map[string]func(ctx context.Context, e *etcd.Election) error{
		"resigns": func(ctx context.Context, e *etcd.Election) error { return e.Resign(ctx) },
		"closes":  func(_ context.Context, e *etcd.Election) error { return e.Close() },
	} {
		for _, want := range []error{nil, reason} {
			runs, name := 0, prefix(t)+way
			err := c.Lead(ctx, name, nil, func(ctx context.Context) error {
				runs++
				assert.NoError(t, resign(ctx, etcd.ElectionOf(ctx)), way)
				return want
			})
			require.ErrorIs(t, err, want, way)
			require.Equal(t, 1, runs, way)
			nothingLeft(t, c, name)
		}
	}
}

func TestLeadGoesOnThroughAnOutage(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()).WithTimeout(time.Second))
	ctx, cancel := context.WithCancel(within(t, patience))
	name := prefix(t) + "election"
	began, ended := make(chan int64, 10), make(chan error, 1)
	go func() {
		ended <- c.Lead(ctx, name, nil, func(ctx context.Context) error {
			began <- etcd.ElectionOf(ctx).Token()
			<-ctx.Done()
			return ctx.Err()
		}, etcd.WithLockTTL(2*time.Second))
	}()
	token := next(t, began)
	for range 2 {
		proxy.Refuse()
		proxy.Cut()
		stand(t, client(t, config(srv)), name, 0) // its lease has ended
		proxy.Heal()
		now := next(t, began)
		require.Greater(t, now, token)
		token = now
	}
	cancel()
	require.ErrorIs(t, next(t, ended), context.Canceled)
	nothingLeft(t, client(t, config(srv)), name)
}

func TestLeadEndsWithWhatCannotPass(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx, name := within(t, patience), prefix(t)+"election"
	never := func(context.Context) error {
		t.Error("it leads")
		return nil
	}
	key, err := etcd.NewEncryptionKey(testKey)
	require.NoError(t, err)
	ring, err := etcd.NewKeyring(nil, key)
	require.NoError(t, err)
	require.ErrorIs(t, client(t, config(srv).WithKeyring(ring)).Lead(ctx, name, nil, never), etcd.ErrNoPrimaryKey)

	c := client(t, config(srv))
	s := newSession(t, c)
	leader := newElection(t, c, name)
	require.NoError(t, leader.Campaign(ctx, nil))
	ended := make(chan error, 2)
	go func() { ended <- c.Lead(ctx, name, nil, never, etcd.WithSession(s)) }()
	stand(t, c, name, 2)
	require.NoError(t, s.Close(ctx))
	require.ErrorIs(t, next(t, ended), etcd.ErrLockLost, "its session has ended")
	waiting, cancel := context.WithCancel(ctx)
	go func() { ended <- c.Lead(waiting, name, nil, never) }()
	stand(t, c, name, 2)
	cancel()
	require.ErrorIs(t, next(t, ended), context.Canceled)
	stand(t, c, name, 1)
}

func TestLeadersTakeTurnsWithoutOverlap(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, cancel := context.WithCancel(within(t, patience))
	defer cancel()
	name := prefix(t) + "election"
	var leading, terms atomic.Int64
	ended := make(chan error, 4)
	for range cap(ended) {
		go func() {
			for ctx.Err() == nil {
				err := c.Lead(ctx, name, nil, func(ctx context.Context) error {
					assert.EqualValues(t, 1, leading.Add(1))
					defer leading.Add(-1)
					if terms.Add(1) == 40 {
						cancel()
					}
					return c.Put(context.WithoutCancel(ctx), name+"/data", nil)
				})
				assert.True(t, err == nil || errors.Is(err, context.Canceled), err)
			}
			ended <- nil
		}()
	}
	for range cap(ended) {
		require.NoError(t, next(t, ended))
	}
	nothingLeft(t, c, name)
}
