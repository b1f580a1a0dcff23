package integration

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestReadWhoseConnectionIsCutIsTriedAgain(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	require.NoError(t, c.Put(t.Context(), prefix(t), nil))

	var once sync.Once
	s := &script{arrived: func(context.Context) { once.Do(proxy.Cut) }}
	require.NoError(t, second(c.Get(faults.follow(within(t, patience), s), prefix(t))))
	require.Equal(t, int64(2), s.seen.Load())
}

func TestCutConnectionLeavesAWriteUnknown(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))

	for i := range 10 {
		s := &script{arrived: func(context.Context) { proxy.Cut() }}
		key := fmt.Sprint(prefix(t), i)
		err := c.Put(faults.follow(within(t, patience), s), key, nil)
		require.ErrorIs(t, err, etcd.ErrUnavailable)
		require.True(t, etcd.MaybeApplied(err))
		require.Equal(t, int64(1), s.seen.Load())
		require.LessOrEqual(t, s.executed.Load(), int64(1))
		require.True(t, etcd.IsRetryable(err))
	}
}

func TestLostAnswerLeavesAWriteUnknown(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))

	s := &script{arrived: func(context.Context) { proxy.Blackhole(etcdtest.ToClient) }}
	err := c.Put(faults.follow(within(t, 2*time.Second), s), prefix(t), []byte("value"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, etcd.MaybeApplied(err))
	proxy.Heal()
	kv, err := c.GetKV(within(t, patience), prefix(t))
	require.NoError(t, err)
	require.Equal(t, int64(1), kv.Version, "it was applied, once")
}

func TestSlowNetworkCausesNoFurtherRequests(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	proxy.Delay(100*time.Millisecond, 50*time.Millisecond)

	s := &script{}
	ctx := faults.follow(within(t, patience), s)
	for range 3 {
		require.NoError(t, c.Put(ctx, prefix(t), nil))
		require.NoError(t, second(c.Get(ctx, prefix(t))))
	}
	require.Equal(t, int64(6), s.seen.Load())

	pace, began := keepPace(t), time.Now()
	err := second(c.Get(within(t, 100*time.Millisecond), prefix(t)))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(began), pace.allow(150*time.Millisecond))
}

func TestCorruptBytesAreAnErrorAndPass(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	require.NoError(t, c.Put(t.Context(), prefix(t), []byte("value")))

	for n := 1; n <= 33; n += 8 {
		proxy.CorruptNext(n)
		s := &script{}
		err := c.Put(faults.follow(within(t, patience), s), prefix(t)+"written", nil)
		if err != nil {
			require.True(t, etcd.MaybeApplied(err), "%d bytes: %v", n, err)
		}
		require.LessOrEqual(t, s.seen.Load(), int64(1))

		proxy.CorruptNext(n)
		s = &script{}
		value, err := c.Get(faults.follow(within(t, patience), s), prefix(t))
		require.NoError(t, err)
		require.Equal(t, "value", string(value))
		require.LessOrEqual(t, s.seen.Load(), int64(3), "no more than a retry or two")
	}
}

// A client whose only endpoint turned into something else, or vanished, waits
// for it without burning the processor.
func TestClientWithoutServerDoesNotSpin(t *testing.T) {
	for name, addr := range map[string]string{
		"refused": etcdtest.ClosedPort(t),
		"garbage": garbagePort(t, "SSH-2.0-Nonsense\r\n"),
		"silent":  silentPort(t),
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, etcd.DefaultConfig().WithEndpoints(addr).WithLazyConnect())
			before := cpuTime(t)
			var requests sync.WaitGroup
			for range 20 {
				requests.Go(func() { assert.Error(t, second(c.Get(within(t, time.Second), "key"))) })
			}
			requests.Wait()
			used := cpuTime(t) - before
			t.Logf("20 requests in 1 s used %v", used)
			require.Less(t, used, 300*time.Millisecond)
		})
	}
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Of two ways to a server one swallows everything. Reads that went that way are
// tried on the other in time.
func TestReadsSucceedBesideASilentEndpoint(t *testing.T) {
	t.Parallel()
	srv := server(t)
	healthy, silent := etcdtest.NewProxy(t, srv.Endpoint()), etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(healthy.Endpoint(), silent.Endpoint()))
	require.NoError(t, c.Put(t.Context(), prefix(t), nil))
	require.Eventually(t, func() bool {
		silent.Pause()
		defer silent.Heal()
		return second(c.Get(within(t, 100*time.Millisecond), prefix(t))) != nil
	}, patience, time.Millisecond, "both endpoints take their turns")
	silent.Blackhole()

	began := time.Now()
	var reads sync.WaitGroup
	for range 64 {
		reads.Go(func() {
			assert.NoError(t, second(c.Get(within(t, beforeGivenUp), prefix(t))))
		})
	}
	reads.Wait()
	t.Logf("64 reads took %v", time.Since(began))
}

func TestAutoSyncFollowsTheMembers(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()).WithAutoSync(50*time.Millisecond))
	require.Eventually(t, func() bool {
		e := c.Endpoints()
		return len(e) == 1 && e[0] != proxy.Endpoint()
	}, patience, 10*time.Millisecond, "the proxy is replaced by what the member advertises")
	proxy.Refuse()
	proxy.Cut()
	require.NoError(t, c.Put(within(t, patience), prefix(t), nil))
}
