package integration

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestSemaphoreAdmitsAsManyAsItsSize(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"semaphore", within(t, patience)
		one, heavy := newSemaphore(t, c, name, 5), newSemaphore(t, c, name, 5, etcd.WithWeight(3))
		require.Equal(t, name, one.Name())
		require.NoError(t, heavy.Acquire(ctx))
		require.False(t, second1(t)(heavy.TryAcquire(ctx)))
		require.NoError(t, one.Acquire(ctx))
		require.True(t, second1(t)(one.TryAcquire(ctx)))
		require.False(t, second1(t)(one.TryAcquire(ctx)))
		require.EqualValues(t, 3, queue(t, c, name))
		require.NoError(t, one.Release(ctx))
		require.False(t, second1(t)(heavy.TryAcquire(ctx)))
		require.NoError(t, heavy.Release(ctx))
		require.True(t, second1(t)(heavy.TryAcquire(ctx)))
		require.NoError(t, heavy.Release(ctx))
		require.NoError(t, one.Release(ctx))
		require.ErrorIs(t, one.Release(ctx), etcd.ErrNotHeld)
		require.Zero(t, queue(t, c, name))
		huge := semaphoreOf(math.MaxInt, math.MaxInt)(t, c, name)
		require.NoError(t, huge.take(ctx))
		require.False(t, huge.tries(t, ctx))
		waits := huge.taking(t, ctx, c, 2)
		after := huge.taking(t, ctx, c, 3)
		require.NoError(t, huge.release(ctx))
		require.NoError(t, next(t, waits))
		require.Empty(t, after, "the sum of the weights is more than can be counted")
		require.NoError(t, huge.release(ctx))
		require.NoError(t, next(t, after))
	})
}

// second1 returns a function that wants no error.
func second1(t testing.TB) func(taken bool, err error) bool {
	return func(taken bool, err error) bool {
		t.Helper()
		require.NoError(t, err)
		return taken
	}
}

func TestSemaphoresOfTwoSizesAreRefused(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, s := within(t, patience), newSession(t, c)
		for _, sizes := range [][2]int{{2, 3}, {3, 2}, {2, 20}, {20, 2}, {10, 9}} {
			name := fmt.Sprint(prefix(t), sizes)
			own, other := newSemaphore(t, c, name, sizes[0]), newSemaphore(t, c, name, sizes[1], etcd.WithSession(s))
			require.NoError(t, own.Acquire(ctx))
			for _, acquire := range []func(context.Context) error{
				other.Acquire,
				func(ctx context.Context) error { return second(other.TryAcquire(ctx)) },
			} {
				var err error
				require.Equal(t, []string{"Txn"}, lockRequests(o, func() { err = acquire(ctx) }))
				require.ErrorIs(t, err, etcd.ErrSemaphoreSize)
				require.ErrorContains(t, err, fmt.Sprintf("%d here, others use %d", sizes[1], sizes[0]))
				require.False(t, etcd.MaybeApplied(err))
				require.False(t, etcd.IsRetryable(err))
				require.EqualValues(t, 1, queue(t, c, name), "nothing is left behind")
			}
			require.ErrorIs(t, other.Release(ctx), etcd.ErrNotHeld)
			require.NoError(t, own.Release(ctx))
			require.NoError(t, other.Acquire(ctx), "all who used the other size have gone")
			require.ErrorIs(t, own.Acquire(ctx), etcd.ErrSemaphoreSize)
		}
	})
}

func TestForeignKeyInASemaphoreIsAnError(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	for i, foreign := range []string{"x", "3/", "3/0\x00", "3/9\x00", "3", "/1", "3/-1\x00", "\xff"} {
		s := newSemaphore(t, c, fmt.Sprint(prefix(t), i), 3)
		require.NoError(t, second(c.Raw().Put(ctx, s.Name()+"\x00sem\x00"+foreign, "")))
		for _, acquire := range semaphoreWays {
			require.ErrorIs(t, second(acquire(ctx, s)), etcd.ErrSemaphoreSize, foreign)
			require.EqualValues(t, 1, queue(t, c, s.Name()), foreign)
		}
	}
}

func TestHeavyClaimIsNotStarvedByLightOnes(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	name, ctx := prefix(t)+"semaphore", within(t, patience)
	light, end := context.WithCancel(ctx)
	var crowd sync.WaitGroup
	for range 6 { // without a queue there would always be one
		s := semaphoreOf(3, 1)(t, other, name)
		crowd.Go(func() {
			for light.Err() == nil {
				if err := s.take(ctx); err != nil {
					t.Error(err)
					return
				}
				if err := s.release(ctx); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	heavy := semaphoreOf(3, 3)(t, c, name)
	for range 5 {
		require.NoError(t, heavy.take(ctx))
		require.NoError(t, heavy.release(ctx))
	}
	end()
	crowd.Wait()

	first, last := semaphoreOf(3, 1)(t, c, name), semaphoreOf(3, 1)(t, c, name)
	require.NoError(t, first.take(ctx))
	waits := heavy.taking(t, ctx, c, 2)
	require.False(t, last.tries(t, ctx), "a light one goes behind a heavy one that waits")
	after := last.taking(t, ctx, c, 3)
	require.NoError(t, first.release(ctx))
	require.NoError(t, next(t, waits))
	require.Empty(t, after)
	require.NoError(t, heavy.release(ctx))
	require.NoError(t, next(t, after))
}

// semaphoreWays are the ways to take a semaphore.
var semaphoreWays = map[string]func(context.Context, *etcd.Semaphore) (bool, error){
	"acquire": func(ctx context.Context, s *etcd.Semaphore) (bool, error) {
		err := s.Acquire(ctx)
		return err == nil, err
	},
	"try": func(ctx context.Context, s *etcd.Semaphore) (bool, error) { return s.TryAcquire(ctx) },
}

func TestSemaphoreIsNeverTakenBeyondItsSize(t *testing.T) {
	t.Parallel()
	const size, workers, rounds = 4, 9, 20
	srv := server(t)
	clients := []*etcd.Client{client(t, config(srv)), client(t, config(srv))}
	name, ctx := prefix(t)+"semaphore", within(t, 2*patience)
	shared := newSemaphore(t, clients[0], name, size)
	var inside, most atomic.Int64
	var all sync.WaitGroup
	for i := range workers {
		s, weight := shared, int64(1)
		if i >= 3 {
			weight = int64(1 + i%size)
			s = newSemaphore(t, clients[i%2], name, size, etcd.WithWeight(int(weight)))
		}
		all.Go(func() {
			for n := range rounds {
				acquire := semaphoreWays["acquire"]
				if n%4 == 3 {
					acquire = semaphoreWays["try"]
				}
				taken, err := acquire(ctx, s)
				if err != nil {
					t.Errorf("worker %d: %v", i, err)
					return
				}
				if !taken {
					continue
				}
				now := inside.Add(weight)
				for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
				}
				inside.Add(-weight)
				if err := s.Release(ctx); err != nil {
					t.Errorf("worker %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
	require.LessOrEqual(t, most.Load(), int64(size))
	t.Logf("%d of %d at once", most.Load(), size)
	require.Zero(t, queue(t, clients[0], name))
}

func TestSemaphoreWaitersComeInTheirOrder(t *testing.T) {
	t.Parallel()
	const waiters = 20
	srv, o := observedServer(t)
	clients := []*etcd.Client{client(t, config(srv)), client(t, config(srv)), client(t, config(srv))}
	name, ctx := prefix(t)+"semaphore", within(t, patience)
	holder := semaphoreOf(1, 1)(t, clients[0], name)
	require.NoError(t, holder.take(ctx))
	got := make(chan int, waiters)
	releases := make([]func(), waiters)
	for i := range waiters {
		w := semaphoreOf(1, 1)(t, clients[i%len(clients)], name)
		releases[i] = func() { require.NoError(t, w.release(ctx)) }
		n := queue(t, clients[0], name)
		go func() {
			if err := w.take(ctx); err != nil {
				t.Error(err)
			}
			got <- i
		}()
		queues(t, clients[0], name, n+1)
	}
	seen := lockRequests(o, func() {
		require.NoError(t, holder.release(ctx))
		for i := range waiters {
			require.Equal(t, i, next(t, got))
			releases[i]()
		}
	})
	// A release and a look for each; some look again meanwhile, since ten seconds have passed
	// or their watch begins later than the release. If all looked each time, it would be 210.
	requests := slices.DeleteFunc(seen, func(method string) bool { return method != "Txn" })
	require.Less(t, len(requests), 5*waiters, "a release wakes one waiter, not all")
	require.Zero(t, queue(t, clients[0], name))
}

func TestSemaphoreClaimSaysSizeAndWeight(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"semaphore", within(t, patience)
	s := newSemaphore(t, c, name, 7, etcd.WithWeight(2))
	require.NoError(t, s.Acquire(ctx))
	resp, err := c.Raw().Get(ctx, name+"\x00", clientv3.WithPrefix())
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1)
	require.Equal(t, name+"\x00sem\x007/2\x00"+etcd.LeaseID(resp.Kvs[0].Lease).String(), string(resp.Kvs[0].Key))
	require.Equal(t, s.Token(), resp.Kvs[0].CreateRevision)
}

func TestTryAcquireRemembersRoom(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c, ctx := client(t, config(srv)), within(t, patience)
	name, s := prefix(t)+"semaphore", newSession(t, c)
	own, others := newSemaphore(t, c, name, 5, etcd.WithSession(s)), newSemaphore(t, c, name, 5, etcd.WithSession(s))
	requires := func(requests int, taken bool, why string) {
		t.Helper()
		got := !taken
		seen := lockRequests(o, func() { got = second1(t)(own.TryAcquire(ctx)) })
		require.Equal(t, slices.Repeat([]string{"Txn"}, requests), seen, why)
		require.Equal(t, taken, got, why)
	}
	requires(1, true, "nobody has it")
	require.NoError(t, others.Acquire(ctx))
	requires(2, true, "somebody came")
	require.NoError(t, own.Release(ctx))
	requires(1, true, "nobody came since")
	require.NoError(t, others.Acquire(ctx))
	requires(2, true, "somebody came")
	requires(1, false, "it is full")
	require.NoError(t, own.Release(ctx))
	for range 10 { // whatever it has taken itself
		requires(1, true, "it was like this before")
		requires(1, false, "it is full")
		require.NoError(t, own.Release(ctx))
	}
	require.NoError(t, others.Release(ctx))
	requires(1, true, "somebody went")
	require.EqualValues(t, 4, queue(t, c, name))
}

func TestWhatATryRemembersAdmitsNobodyAfterARestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := server(t, etcdtest.WithDir(dir))
	c, other := client(t, config(srv).WithTimeout(busyTimeout)), client(t, config(srv).WithTimeout(busyTimeout))
	name, ctx := prefix(t)+"semaphore", t.Context()
	s := newSession(t, c, etcd.WithSessionTTL(time.Hour))
	own := newSemaphore(t, c, name, 2, etcd.WithSession(s))
	backup := copied(t, srv, dir)
	for range 10 {
		require.NoError(t, c.Put(ctx, name+"-other", nil))
	}
	require.True(t, second1(t)(own.TryAcquire(ctx)))
	require.NoError(t, own.Release(ctx))
	putBack(t, srv, dir, backup)

	full := newSemaphore(t, other, name, 2, etcd.WithWeight(2), etcd.WithLockTTL(time.Hour))
	require.NoError(t, full.Acquire(ctx))
	require.ErrorIs(t, second(own.TryAcquire(ctx)), etcd.ErrRevisionRegressed)
	require.False(t, second1(t)(own.TryAcquire(ctx)))
	require.NoError(t, full.Context().Err())
	queues(t, other, name, 1) // its claim doesn't stay
}

func TestTryAcquireFindsItsOwnLateClaim(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, s := within(t, patience), newSemaphore(t, c, prefix(t)+"semaphore", 5)
	require.True(t, second1(t)(s.TryAcquire(ctx)))
	require.True(t, second1(t)(s.TryAcquire(ctx)))
	resp, err := c.Raw().Get(ctx, s.Name()+"\x00", clientv3.WithLastCreate()...)
	require.NoError(t, err)
	require.NoError(t, s.Release(ctx))
	// As if a proxy had sent the request of the second one again.
	late := resp.Kvs[0]
	require.NoError(t, second(c.Raw().Put(ctx, string(late.Key), "", clientv3.WithLease(clientv3.LeaseID(late.Lease)))))
	require.NoError(t, s.Release(ctx))
	for range 2 { // the leases come back in the other order
		require.True(t, second1(t)(s.TryAcquire(ctx)))
	}
	for range 2 {
		require.NoError(t, s.Release(ctx))
	}
	queues(t, c, s.Name(), 0)
}

// A proxy sends the request again, and somebody comes between the two.
func TestTryAcquireSentTwiceIsNotBehindYoungerClaims(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	c, ctx := client(t, config(srv)), within(t, patience)
	kv := pb.NewKVClient(c.Raw().ActiveConnection())
	lease, err := c.Grant(ctx, time.Hour)
	require.NoError(t, err)
	s := newSemaphore(t, c, prefix(t)+"semaphore", 2)
	younger := s.Name() + "\x00sem\x002/2\x00" + lease.String()
	var sent atomic.Bool
	f := interference(func(txn *pb.TxnRequest) (bool, error) {
		if putsLike(txn, "\x00sem\x00") && sent.CompareAndSwap(false, true) {
			resp, err := kv.Txn(ctx, txn)
			assert.True(t, err == nil && resp.Succeeded)
			assert.NoError(t, second(c.Raw().Put(ctx, younger, "", clientv3.WithLease(clientv3.LeaseID(lease)))))
		}
		return false, nil
	})
	now.Store(&f)
	require.True(t, second1(t)(s.TryAcquire(ctx)))
	require.True(t, sent.Load())
	require.NoError(t, c.Put(s.Guard(ctx), s.Name()+"-data", nil))
	require.NoError(t, s.Release(ctx))
}
