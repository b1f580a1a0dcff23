package integration

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestPanicOfAHookLeavesNoClaimBehind(t *testing.T) {
	t.Parallel()
	srv := server(t)
	hook, log := &startled{}, &lockedBuffer{}
	c := client(t, config(srv).WithTimeout(busyTimeout).WithHooks(hook).WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	other := client(t, config(srv).WithTimeout(busyTimeout))
	panics := 0
	for _, op := range []string{"lock", "try lock", "unlock", "grant"} {
		for _, after := range []bool{false, true} {
			for nth := 1; nth <= 2; nth++ {
				msg := fmt.Sprint(op, nth, after)
				name := prefix(t) + msg
				holder, err := other.NewLock(name)
				require.NoError(t, err)
				if nth == 2 { // the first request puts the claim into the queue
					require.NoError(t, holder.Lock(t.Context()))
				}
				var n atomic.Int64
				revoked := make(chan struct{}, 8)
				when := func(req etcd.RequestInfo, is bool) bool {
					if req.Op == "revoke" && is == after { // in the background
						revoked <- struct{}{}
						return true
					}
					return req.Op == op && is == after && n.Add(1) == int64(nth)
				}
				lock, err := c.NewLock(name, etcd.WithLockTTL(time.Hour), etcd.WithTryWait(time.Hour))
				require.NoError(t, err)
				hook.when.Store(&when)
				ended := make(chan any, 1)
				go func() {
					ended <- survive(func() {
						if op == "try lock" {
							_, err = lock.TryLock(t.Context())
						} else {
							err = lock.Lock(t.Context())
						}
						if err == nil {
							err = lock.Unlock(t.Context())
						}
					})
				}()
				if nth == 2 && op != "lock" && op != "try lock" {
					require.NoError(t, holder.Unlock(t.Context()))
				}
				panicked := <-ended
				if panicked != nil {
					require.Equal(t, "startled", panicked, msg)
					panics++
					<-revoked
				}
				hook.when.Store(nil)
				_ = holder.Unlock(t.Context())
				require.NoError(t, holder.Lock(t.Context()), msg) // not after an hour
				require.NoError(t, holder.Close())
				require.NoError(t, lock.Lock(t.Context()), "the turn was given back")
				require.NoError(t, lock.Close())
			}
		}
	}
	require.Greater(t, panics, 8)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "a hook panicked") }, busyTimeout, time.Millisecond)
}

func TestHooksSeeTheEndThoughAnotherPanics(t *testing.T) {
	t.Parallel()
	srv := server(t)
	j := &journal{}
	hook := &startled{}
	c := client(t, config(srv).WithTimeout(busyTimeout).WithHooks(j, hook, j))
	for _, after := range []bool{false, true} {
		when := func(_ etcd.RequestInfo, is bool) bool { return is == after }
		j.take()
		hook.when.Store(&when)
		require.Equal(t, "startled", survive(func() { _ = c.Put(t.Context(), "k", nil) }))
		hook.when.Store(nil)
		var before, ends int
		for _, e := range j.take() {
			if e.when == "before" {
				before++
				continue
			}
			ends++
			require.Equal(t, after, e.res.Err == nil)
			require.Equal(t, after, e.res.Attempts > 0)
		}
		require.Equal(t, before, ends)
		require.Positive(t, before)
	}
}

func TestHookThatReturnsNoContextKeepsTheRequests(t *testing.T) {
	t.Parallel()
	j := &journal{}
	c := client(t, config(server(t)).WithTimeout(busyTimeout).WithHooks(hook{
		before: func(context.Context, etcd.RequestInfo) context.Context { return nil },
	}, j))
	require.NoError(t, c.Put(t.Context(), "k", nil))
	require.NotEmpty(t, j.take())
}
