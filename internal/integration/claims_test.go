package integration

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

func TestQueueNamesHolderAndWaitersInOrder(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"lock", within(t, patience)
		holder := newLock(t, c, name, etcd.WithOwner("the holder ☃"), etcd.WithLockTTL(time.Minute))
		claims, err := holder.Queue(ctx)
		require.NoError(t, err)
		require.Empty(t, claims)

		began := time.Now().Truncate(time.Millisecond)
		require.NoError(t, holder.Lock(ctx))
		s := newSession(t, c, etcd.WithSessionTTL(2*time.Minute))
		waiters := []*etcd.Lock{newLock(t, c, name), newLock(t, c, name, etcd.WithSession(s), etcd.WithOwner("last"))}
		waiting, giveUp := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for i, l := range waiters {
			wg.Go(func() { require.ErrorIs(t, l.Lock(waiting), context.Canceled) })
			queues(t, c, name, int64(i)+2)
		}
		claims, err = waiters[0].Queue(ctx)
		require.NoError(t, err)
		require.Len(t, claims, 3)
		host, err := os.Hostname()
		require.NoError(t, err)
		for i, text := range []string{"the holder ☃", "", "last"} {
			claim := claims[i]
			require.Equal(t, etcd.Owner{Host: host, PID: os.Getpid(), Text: text}, claim.Owner)
			require.NoError(t, claim.Err)
			require.Equal(t, name, claim.Name)
			require.Equal(t, name+"\x00"+claim.Lease.String(), claim.Key)
			require.Equal(t, i == 0, claim.Held)
			require.WithinRange(t, claim.Since, began, time.Now())
			if i > 0 {
				require.Greater(t, claim.Token, claims[i-1].Token)
			}
		}
		require.Equal(t, holder.Token(), claims[0].Token)
		require.Equal(t, s.Lease(), claims[2].Lease)
		require.Greater(t, claims[0].TTL, 30*time.Second)
		require.LessOrEqual(t, claims[0].TTL, time.Minute)
		require.Greater(t, claims[2].TTL, time.Minute)
		giveUp()
		wg.Wait()
		require.NoError(t, holder.Unlock(ctx))

		keysAndValues, err := c.ListWithValues(ctx, name)
		require.NoError(t, err)
		require.Empty(t, keysAndValues, "the records are nobody's data")
	})
}

func TestQueueListsTheClaimsOfPackageConcurrency(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"lock", within(t, patience)
	m, s := mutex(t, c.Raw(), name)
	require.NoError(t, m.Lock(ctx))
	l := newLock(t, c, name, etcd.WithConcurrencyKeys())
	claims, err := l.Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 1)
	require.Equal(t, etcd.LeaseID(s.Lease()), claims[0].Lease)
	require.Equal(t, m.Key(), claims[0].Key)
	require.True(t, claims[0].Held)
	require.Zero(t, claims[0].Owner)
	require.Zero(t, claims[0].Since)
	require.NoError(t, claims[0].Err)
	require.Positive(t, claims[0].TTL)
}

func TestUndecodableRecordHidesNoClaim(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx, name := within(t, patience), prefix(t)+"lock"
	plain := client(t, config(srv))
	one := client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 1))))
	two := client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 2))))
	reader := newLock(t, two, name)
	holders := []*etcd.Client{plain, one, two}
	waiting, giveUp := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer giveUp()
	for i, c := range holders {
		l := newLock(t, c, name, etcd.WithOwner("owner"))
		wg.Go(func() { _ = l.Lock(waiting) })
		queues(t, plain, name, int64(i)+1)
	}
	// And one that holds what is no record.
	lease, err := two.Grant(ctx, time.Minute)
	require.NoError(t, err)
	require.NoError(t, two.PutWithLease(ctx, name+"\x00"+lease.String(), []byte("no record"), lease))

	claims, err := reader.Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 4)
	for i, want := range []error{etcd.ErrNotEncrypted, etcd.ErrUnknownKey, nil, etcd.ErrEncoding} {
		require.ErrorIs(t, claims[i].Err, want)
		var bad *etcd.DecodeError
		require.Equal(t, want != nil, errors.As(claims[i].Err, &bad))
		require.Equal(t, i == 0, claims[i].Held)
		require.Positive(t, claims[i].TTL)
		require.Equal(t, i == 2, claims[i].Owner.Text == "owner")
	}
	require.NotContains(t, claims[3].Err.Error(), "no record")
}

func TestRecordThatNeedsAKeySaysSo(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, plain := client(t, config(srv).WithEncryption(testKey)), client(t, config(srv))
	ctx, name := within(t, patience), prefix(t)+"lock"
	require.NoError(t, newLock(t, c, name, etcd.WithOwner("me")).Lock(ctx))
	claims, err := newLock(t, plain, name).Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 1)
	require.ErrorIs(t, claims[0].Err, etcd.ErrUnknownKey)
	var bad *etcd.DecodeError
	require.ErrorAs(t, claims[0].Err, &bad)
	require.Equal(t, claims[0].Key, bad.Key)
	require.Zero(t, claims[0].Owner)
	require.Zero(t, claims[0].Since)
}

func TestRecordThatSaysNothingHasNoTime(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, name := within(t, patience), prefix(t)+"lock"
		lease, err := c.Grant(ctx, time.Minute)
		require.NoError(t, err)
		require.NoError(t, c.PutWithLease(ctx, name+"\x00"+lease.String(), []byte("{}"), lease))
		claims, err := newLock(t, c, name).Queue(ctx)
		require.NoError(t, err)
		require.Len(t, claims, 1)
		require.NoError(t, claims[0].Err)
		require.Zero(t, claims[0].Owner)
		require.Zero(t, claims[0].Since)
	})
}

func TestClaimOfAClientWithoutAKeySaysNothing(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ring, err := etcd.NewKeyring(nil, keyNumber(t, 1))
	require.NoError(t, err)
	c, ctx := client(t, config(srv).WithKeyring(ring)), within(t, patience)
	l := newLock(t, c, prefix(t)+"lock", etcd.WithOwner("me"))
	require.NoError(t, l.Lock(ctx))
	raw, err := c.Raw().Get(ctx, ownKey(t, c, l.Name()))
	require.NoError(t, err)
	require.Empty(t, raw.Kvs[0].Value, "no plaintext in its place")
	claims, err := l.Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 1)
	require.Zero(t, claims[0].Owner)
	require.NoError(t, claims[0].Err)
}

func TestRecordsOfClaimsAreEncrypted(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, name := within(t, patience), prefix(t)+"lock"
		l := newLock(t, c, name, etcd.WithOwner("whom to ask"))
		require.NoError(t, l.Lock(ctx))
		raw, err := c.Raw().Get(ctx, "", clientv3.WithFromKey())
		require.NoError(t, err)
		require.Len(t, raw.Kvs, 1)
		plain := strings.Contains(string(raw.Kvs[0].Value), "whom to ask")
		encrypted := strings.HasSuffix(t.Name(), "encrypted") || strings.HasSuffix(t.Name(), "all")
		require.Equal(t, !encrypted, plain)
	})
}

func TestQueueAsksOnceForEachLease(t *testing.T) {
	t.Parallel()
	seen := &requestLog{}
	c := client(t, config(server(t)).WithHooks(seen.hook()))
	ctx, name := within(t, patience), prefix(t)+"lock"
	reader := newLock(t, c, name)
	const n = 40
	for range n {
		id, err := c.Grant(ctx, time.Minute)
		require.NoError(t, err)
		require.NoError(t, c.PutWithLease(ctx, name+"\x00"+id.String(), nil, id))
	}
	var claims []etcd.Claim
	ops := seen.during(func() {
		var err error
		claims, err = reader.Queue(ctx)
		require.NoError(t, err)
	})
	require.Len(t, claims, n)
	require.Len(t, ops, n+1)
}

func TestQueueThatFailsListsNothing(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c, ctx := client(t, config(srv)), within(t, patience)
	l := newLock(t, c, prefix(t)+"lock")
	require.NoError(t, l.Lock(ctx))
	lost := f.follow(ctx, &script{answer: rpctypes.ErrGRPCPermissionDenied, refuse: true})
	claims, err := l.Queue(lost)
	require.ErrorIs(t, err, etcd.ErrPermissionDenied)
	require.Empty(t, claims)
	var none context.Context
	_, err = l.Queue(none)
	require.ErrorIs(t, err, etcd.ErrNilContext)
	_, err = l.IsLocked(none)
	require.ErrorIs(t, err, etcd.ErrNilContext)
	closed, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	orphan, err := closed.NewLock("orphan")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = orphan.Queue(ctx)
	require.ErrorIs(t, err, etcd.ErrClosed)
	require.NoError(t, orphan.Close())
}

func TestBadOwnersAreRefusedUnsent(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	require.Empty(t, o.during(func() {
		_, err := c.NewLock("lock", etcd.WithOwner(strings.Repeat("a", 1025)))
		require.ErrorIs(t, err, etcd.ErrTooLarge)
		_, err = c.NewLock("lock", etcd.WithOwner("\xff"))
		require.ErrorIs(t, err, etcd.ErrInvalidArgument)
		_, err = c.NewLock("lock", etcd.WithOwner("told nowhere"), etcd.WithConcurrencyKeys())
		require.ErrorIs(t, err, etcd.ErrInvalidArgument)
	}))
	require.NoError(t, newLock(t, c, "lock", etcd.WithOwner(strings.Repeat("a", 1024))).Lock(within(t, patience)))
}

func TestQueueOfAnRWLockTellsReadersFromWriters(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, name := within(t, patience), prefix(t)+"lock"
		l, err := c.NewRWLock(name, etcd.WithOwner("me"))
		require.NoError(t, err)
		defer func() { require.NoError(t, l.Close()) }()
		claims, err := l.Queue(ctx)
		require.NoError(t, err)
		require.Empty(t, claims)
		require.NoError(t, l.RLock(ctx))
		require.NoError(t, l.RLock(ctx))
		waiting, giveUp := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for i, wait := range []func(context.Context) error{l.Lock, l.RLock} {
			wg.Go(func() { require.ErrorIs(t, wait(waiting), context.Canceled) })
			queues(t, c, name, int64(i)+3)
		}
		claims, err = l.Queue(ctx)
		require.NoError(t, err)
		require.Len(t, claims, 4)
		for i, want := range []struct{ shared, held bool }{{true, true}, {true, true}, {false, false}, {true, false}} {
			require.Equal(t, want.shared, claims[i].Shared)
			require.Equal(t, want.held, claims[i].Held)
			require.Equal(t, "me", claims[i].Owner.Text)
			require.Positive(t, claims[i].TTL)
			require.Zero(t, claims[i].Weight)
		}
		require.Equal(t, l.Token(), claims[0].Token)
		giveUp()
		wg.Wait()
		require.NoError(t, l.RUnlock(ctx))
		require.NoError(t, l.RUnlock(ctx))
		require.NoError(t, l.Lock(ctx))
		claims, err = l.Queue(ctx)
		require.NoError(t, err)
		require.Len(t, claims, 1)
		require.True(t, claims[0].Held)
		require.False(t, claims[0].Shared)
	})
}

func TestQueueOfASemaphoreTellsWeights(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, name := within(t, patience), prefix(t)+"semaphore"
		light, err := c.NewSemaphore(name, 3, etcd.WithOwner("light"))
		require.NoError(t, err)
		defer func() { require.NoError(t, light.Close()) }()
		heavy, err := c.NewSemaphore(name, 3, etcd.WithWeight(2), etcd.WithOwner("heavy"))
		require.NoError(t, err)
		defer func() { require.NoError(t, heavy.Close()) }()
		require.NoError(t, light.Acquire(ctx))
		require.NoError(t, heavy.Acquire(ctx))
		waiting, giveUp := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { require.ErrorIs(t, light.Acquire(waiting), context.Canceled) })
		queues(t, c, name, 3)
		claims, err := heavy.Queue(ctx)
		require.NoError(t, err)
		require.Len(t, claims, 3)
		for i, want := range []struct {
			owner  string
			weight int
			held   bool
		}{{"light", 1, true}, {"heavy", 2, true}, {"light", 1, false}} {
			require.Equal(t, want.owner, claims[i].Owner.Text)
			require.Equal(t, want.weight, claims[i].Weight)
			require.Equal(t, want.held, claims[i].Held)
			require.False(t, claims[i].Shared)
		}
		giveUp()
		wg.Wait()
	})
}
