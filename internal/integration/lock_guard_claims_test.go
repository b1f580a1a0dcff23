package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestNewHolderIsSafeFromOldWrites(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		observeGuards(t, o)
		name, key := prefix(t)+"lock", prefix(t)+"k"
		old, stale, claim := guarding(t, c, name)
		require.NoError(t, c.Put(stale, key, []byte("old holder's")))
		require.NoError(t, second(c.Raw().Delete(t.Context(), claim)))
		require.NoError(t, c.WithLock(t.Context(), name, func(ctx context.Context) error {
			require.Greater(t, etcd.LockOf(ctx).Token(), etcd.LockOf(stale).Token())
			if err := c.Put(ctx, key, []byte("new holder's")); err != nil {
				return err
			}
			err := c.Put(stale, key, []byte("stale"))
			require.ErrorIs(t, err, etcd.ErrLockLost)
			require.False(t, etcd.MaybeApplied(err))
			return nil
		}))
		value, err := c.Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, "new holder's", string(value))
		require.ErrorIs(t, old.Unlock(t.Context()), etcd.ErrLockLost)
	})
}

func TestOwnConditionsUnderAGuardKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		_, ctx, _ := guarding(t, c, prefix(t)+"lock")
		a, b := prefix(t)+"a", prefix(t)+"b"
		require.NoError(t, c.Put(ctx, a, []byte("old")))
		for name, call := range map[string]func() (bool, error){
			"CompareAndSwap":           func() (bool, error) { return c.CompareAndSwap(ctx, a, []byte("other"), nil) },
			"CompareAndSwapRevision":   func() (bool, error) { return c.CompareAndSwapRevision(ctx, a, 1, nil) },
			"CompareAndDelete":         func() (bool, error) { return c.CompareAndDelete(ctx, a, []byte("other")) },
			"CompareAndDeleteRevision": func() (bool, error) { return c.CompareAndDeleteRevision(ctx, a, 1) },
			"PutIfNotExists":           func() (bool, error) { return c.PutIfNotExists(ctx, a, nil) },
			"PutIfChanged":             func() (bool, error) { return c.PutIfChanged(ctx, a, []byte("old")) },
		} {
			changed, err := call()
			require.NoError(t, err, name)
			require.False(t, changed, name)
		}
		fails := etcd.WithCondition(etcd.Exists(b))
		for name, err := range map[string]error{
			"Put":          c.Put(ctx, a, nil, fails),
			"Delete":       second(c.Delete(ctx, a, fails)),
			"DeletePrefix": second(c.DeletePrefix(ctx, a, fails)),
			"BulkPut":      c.BulkPut(ctx, map[string][]byte{a: nil}, fails),
			"Update":       c.Update(ctx, a, func([]byte) ([]byte, error) { return []byte("new"), nil }, fails),
			"Transact":     c.Transact(ctx, func(tx *etcd.Tx) error { tx.Put(a, nil); return nil }, fails),
		} {
			require.ErrorIs(t, err, etcd.ErrConditionFailed, name)
			require.NotErrorIs(t, err, etcd.ErrLockLost, name)
			require.False(t, etcd.MaybeApplied(err), name)
		}
		require.ErrorIs(t, c.MoveKey(ctx, b, a), etcd.ErrKeyNotFound)
		res, err := c.Txn().If(etcd.Exists(b)).Then(etcd.OpPut(a, nil)).Else(etcd.OpGet(a), etcd.OpGet(b)).Commit(ctx)
		require.NoError(t, err)
		require.False(t, res.Succeeded)
		require.Len(t, res.Results, 2, "what tells of the lock isn't shown")
		require.Equal(t, "old", string(res.Results[0].KVs[0].Value))
		value, err := c.Get(ctx, a)
		require.NoError(t, err)
		require.Equal(t, "old", string(value))
	})
}

func TestGuardedUpdatesLoseNoConcurrentChange(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		_, ctx, _ := guarding(t, c, prefix(t)+"lock")
		key := prefix(t) + "n"
		require.NoError(t, c.Put(ctx, key, []byte("0")))
		var writers sync.WaitGroup
		for i := range 4 {
			writers.Go(func() {
				with := ctx
				if i%2 == 0 {
					with = t.Context()
				}
				for range 5 {
					require.NoError(t, c.Update(with, key, increment))
				}
			})
		}
		writers.Wait()
		value, err := c.Get(ctx, key)
		require.NoError(t, err)
		require.Equal(t, "20", string(value))
	})
}

func TestGuardsNestAndAllOfThemCount(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		observeGuards(t, o)
		for _, gone := range []string{"outer", "inner"} {
			p := prefix(t) + gone + "/"
			outer, ctx, outerKey := guarding(t, c, p+"outer")
			inner, _, innerKey := guarding(t, c, p+"inner")
			both := inner.Guard(ctx)
			require.Equal(t, inner, etcd.LockOf(both))
			require.Equal(t, outer, etcd.LockOf(ctx))
			require.NoError(t, c.Put(both, p+"k", []byte("both")))
			require.NoError(t, second(c.Raw().Delete(t.Context(), map[string]string{"outer": outerKey, "inner": innerKey}[gone])))
			err := c.Put(both, p+"k", []byte("stale"))
			require.ErrorIs(t, err, etcd.ErrLockLost, gone)
			require.False(t, etcd.MaybeApplied(err), gone)
			closes(t, both.Done())
			value, err := c.Get(t.Context(), p+"k")
			require.NoError(t, err)
			require.Equal(t, "both", string(value), gone)
		}
	})
}

func TestGuardWithoutTheLockWritesNothing(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	lock := newLock(t, c, prefix(t)+"lock")
	ctx := lock.Guard(t.Context())
	closes(t, ctx.Done())
	for _, reason := range []error{etcd.ErrLockLost, etcd.ErrNotHeld} {
		require.ErrorIs(t, context.Cause(ctx), reason)
		requireRefused(t, o, "never held", reason, func() error { return c.Put(context.WithoutCancel(ctx), "k", nil) })
		requireRefused(t, o, "never held, and over", reason, func() error { return c.Put(ctx, "k", nil) })
	}

	require.NoError(t, lock.Lock(t.Context()))
	ctx = lock.Guard(t.Context())
	require.NoError(t, ctx.Err())
	require.NoError(t, lock.Unlock(ctx), "its own context may release it")
	closes(t, ctx.Done())
	require.ErrorIs(t, context.Cause(ctx), etcd.ErrNotHeld)
	requireRefused(t, o, "released", etcd.ErrLockLost, func() error { return c.Put(context.WithoutCancel(ctx), "k", nil) })
	require.NoError(t, c.Put(context.WithoutCancel(etcd.Unguarded(ctx)), "k", nil))

	// The next claim is another one.
	require.NoError(t, lock.Lock(t.Context()))
	requireRefused(t, o, "released and taken again", etcd.ErrNotHeld, func() error { return c.Put(context.WithoutCancel(ctx), "k", nil) })
	brief, cancel := context.WithTimeout(lock.Guard(t.Context()), time.Minute)
	defer cancel()
	require.NoError(t, lock.Unlock(brief))
	require.Zero(t, queue(t, c, lock.Name()))
}

func TestUnlockByItsGuardEndsWithItsParent(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	lock := newLock(t, c, prefix(t)+"lock")
	require.NoError(t, lock.Lock(t.Context()))
	parent, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, lock.Unlock(lock.Guard(parent)), context.Canceled)
}

func TestGuardedContextIsForItsOwnClientAlone(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	_, ctx, _ := guarding(t, c, prefix(t)+"lock")
	requireRefused(t, o, "another client", etcd.ErrInvalidArgument, func() error { return other.Put(ctx, "k", nil) })
	requireRefused(t, o, "another client's bulk", etcd.ErrInvalidArgument, func() error { return other.BulkPut(ctx, map[string][]byte{"k": nil}) })
	require.NoError(t, other.Put(etcd.Unguarded(ctx), "k", nil))
	require.NoError(t, second(other.Get(ctx, "k")), "reads are not bound")
	require.NoError(t, second(other.Grant(ctx, time.Minute)))
	require.NoError(t, newLock(t, other, prefix(t)+"inner").Lock(ctx), "a lock's own requests are not bound")
	var none context.Context
	require.Nil(t, etcd.LockOf(none))
	require.Nil(t, etcd.LockOf(etcd.Unguarded(ctx)))
	require.Nil(t, newLock(t, c, prefix(t)+"free").Guard(none))
}

func TestGuardCountsInTheLimitsOfATransaction(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	_, ctx, _ := guarding(t, c, prefix(t)+"lock")
	many := func(n int) (conditions []etcd.Condition, puts, reads []etcd.Op) {
		for i := range n {
			key := fmt.Sprint(prefix(t), i)
			conditions, puts, reads = append(conditions, etcd.Missing(key)), append(puts, etcd.OpPut(key, nil)), append(reads, etcd.OpGet(key))
		}
		return conditions, puts, reads
	}
	conditions, puts, reads := many(etcd.DefaultMaxTxnOps)
	requireRefused(t, o, "conditions", etcd.ErrTooManyOps, func() error { return second(c.Txn().If(conditions...).Then(puts...).Commit(ctx)) })
	requireRefused(t, o, "reads", etcd.ErrTooManyOps, func() error { return second(c.Txn().If(conditions[0]).Then(puts...).Else(reads...).Commit(ctx)) })
	requireRefused(t, o, "another level", etcd.ErrTooManyOps, func() error { return second(c.Txn().If(conditions[0]).Else(puts...).Commit(ctx)) })
	require.NoError(t, committed(ctx, c.Txn().If(conditions[1:]...).Then(puts...).Else(reads[1:]...)))

	large := make([]byte, etcd.DefaultMaxRequestBytes-200)
	requireRefused(t, o, "bytes", etcd.ErrTooLarge, func() error { return c.Put(ctx, prefix(t)+"large", large) })
	require.NoError(t, c.Put(t.Context(), prefix(t)+"large", large))
}

func TestGuardedReencryptionIsRefusedWithTheLock(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	g, p := observeGuards(t, o), prefix(t)
	first, next := keyNumber(t, 1), keyNumber(t, 2)
	require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, first))).BulkPut(t.Context(), map[string][]byte{p + "a": nil, p + "b": nil}))
	c := client(t, config(srv).WithKeyring(ringOf(t, next, first)).WithTimeout(busyTimeout))
	lock, ctx, key := guarding(t, c, "/lock")
	require.NoError(t, second(c.Raw().Delete(t.Context(), key)))
	before := stateOf(t, c)
	report, err := c.Reencrypt(ctx, p)
	require.ErrorIs(t, err, etcd.ErrLockLost)
	require.False(t, etcd.MaybeApplied(err))
	require.Zero(t, report.Rewritten)
	require.Equal(t, before, stateOf(t, c))
	require.ErrorIs(t, lock.Unlock(ctx), etcd.ErrLockLost)

	lock, ctx, key = guarding(t, c, "/lock2")
	g.watchFor(key, lock.Token())
	report, err = c.Reencrypt(ctx, p)
	require.NoError(t, err)
	require.EqualValues(t, 2, report.Rewritten)
	writes, unbound := g.found()
	require.Positive(t, writes)
	require.Empty(t, unbound)
}

func TestBatchedWritesAreBoundToTheirLocks(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	g, p := observeGuards(t, o), prefix(t)
	c := client(t, config(srv).WithBatching(etcd.WithBatchInFlight(1)).WithTimeout(busyTimeout))
	_, good, _ := guarding(t, c, p+"good")
	lock, stale, claim := guarding(t, c, p+"stale")
	g.watchFor(claim, lock.Token())
	require.NoError(t, second(c.Raw().Delete(t.Context(), claim)))
	var together atomic.Int64
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	o.around(func(req any) {
		g.see(req)
		if put, ok := req.(*pb.PutRequest); ok && strings.HasSuffix(string(put.Key), "held") {
			<-hold
		}
		if txn, ok := req.(*pb.TxnRequest); ok && len(txn.Compare) == 0 {
			for _, op := range txn.Success {
				if op.GetRequestTxn() != nil {
					together.Add(1)
					release()
				}
			}
		}
	}, nil)
	var held, callers sync.WaitGroup
	held.Go(func() { require.NoError(t, c.Put(t.Context(), p+"held", nil)) })
	for i := range 20 {
		callers.Go(func() { require.NoError(t, c.Put(good, fmt.Sprint(p, "good", i), []byte("x"))) })
		callers.Go(func() {
			err := c.Put(context.WithoutCancel(stale), fmt.Sprint(p, "stale", i), []byte("x"))
			require.ErrorIs(t, err, etcd.ErrLockLost)
			require.False(t, etcd.MaybeApplied(err))
		})
	}
	callers.Wait()
	release()
	held.Wait()
	require.Positive(t, together.Load(), "guarded writes traveled with others")
	n, err := c.Count(t.Context(), p+"good")
	require.NoError(t, err)
	require.EqualValues(t, 21, n, "all of the holder's, and its claim")
	n, err = c.Count(t.Context(), p+"stale")
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestHooksSeeThatAGuardRefusedAWrite(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	observeGuards(t, o)
	var seen atomic.Pointer[etcd.ResultInfo]
	c := client(t, config(srv).WithTimeout(busyTimeout).WithHooks(hook{after: func(req etcd.RequestInfo, res etcd.ResultInfo) {
		if req.Op == "put" {
			seen.Store(&res)
		}
	}}))
	_, ctx, claim := guarding(t, c, prefix(t)+"lock")
	require.NoError(t, second(c.Raw().Delete(t.Context(), claim)))
	require.ErrorIs(t, c.Put(ctx, "k", nil), etcd.ErrLockLost)
	require.ErrorIs(t, seen.Load().Err, etcd.ErrLockLost)
}

// A proxy that has lost an answer may send a request again, when the lock is gone.
func TestGuardedWriteSentTwiceReportsTheFirst(t *testing.T) {
	t.Parallel()
	var lose atomic.Pointer[func()]
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			if lose := lose.Load(); lose != nil && writesKeys(req) {
				(*lose)()
				return handler(ctx, req)
			}
			return resp, err
		})))
	raw := client(t, config(srv))
	for name, c := range map[string]*etcd.Client{"encrypted": client(t, config(srv).WithEncryption(testKey)), "plain": client(t, config(srv))} {
		_, ctx, claim := guarding(t, c, prefix(t)+name+"lock")
		once := sync.OnceFunc(func() { _, _ = raw.Raw().Delete(t.Context(), claim) })
		lose.Store(&once)
		err := c.Put(ctx, prefix(t)+name, []byte("value"))
		lose.Store(nil)
		value, _ := c.Get(t.Context(), prefix(t)+name)
		require.Equal(t, "value", string(value))
		if name == "encrypted" {
			require.NoError(t, err, "the value proves that it was applied")
		} else {
			require.ErrorIs(t, err, etcd.ErrLockLost, "as documented: nothing proves it")
		}
	}
}
