package integration

import (
	"context"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// harmless are the methods that can't fail, and Close.
var harmless = []string{"Close", "Endpoints", "Format", "IsEncrypted", "Raw", "String"}

func TestCallsAreAllMethodsOfAClient(t *testing.T) {
	t.Parallel()
	typ := reflect.TypeFor[*etcd.Client]()
	for i := range typ.NumMethod() {
		name := typ.Method(i).Name
		_, called := calls[name]
		require.NotEqual(t, called, slices.Contains(harmless, name), "%s must be in one of calls and harmless", name)
	}
	require.Equal(t, typ.NumMethod(), len(calls)+len(harmless))
}

func TestNilContextIsRefusedByEveryMethod(t *testing.T) {
	t.Parallel()
	contextType := reflect.TypeFor[context.Context]()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		var none context.Context
		for name, call := range calls {
			method, ok := reflect.TypeFor[*etcd.Client]().MethodByName(name)
			require.True(t, ok)
			if name != "Txn" && (method.Type.NumIn() < 2 || method.Type.In(1) != contextType) {
				continue
			}
			requireRefused(t, o, name, etcd.ErrNilContext, func() error { return call(none, c) })
		}
		requireRefused(t, o, "empty bulk put", etcd.ErrNilContext, func() error { return c.BulkPut(none, nil) })
		requireRefused(t, o, "empty bulk get", etcd.ErrNilContext, func() error { return second(c.BulkGet(none, nil)) })
		requireRefused(t, o, "empty bulk delete", etcd.ErrNilContext, func() error { return second(c.BulkDelete(none, nil)) })
		requireRefused(t, o, "empty transaction", etcd.ErrNilContext, func() error { return second(c.Txn().Commit(none)) })

		lock, err := c.NewLock("lock")
		require.NoError(t, err)
		requireRefused(t, o, "Lock.Lock", etcd.ErrNilContext, func() error { return lock.Lock(none) })
		requireRefused(t, o, "Lock.TryLock", etcd.ErrNilContext, func() error { return second(lock.TryLock(none)) })
		requireRefused(t, o, "Lock.Unlock", etcd.ErrNilContext, func() error { return lock.Unlock(none) })
		requireRefused(t, o, "Lock.IsLocked", etcd.ErrNilContext, func() error { return second(lock.IsLocked(none)) })
	})
}

func TestClosedClientRefusesEveryMethodAtOnce(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		require.NoError(t, c.Close())
		pace, began := keepPace(t), time.Now()
		for name, call := range calls {
			requireRefused(t, o, name, etcd.ErrClosed, func() error { return call(context.Background(), c) })
		}
		// A call on a closed clientv3 takes 2.5 s; so would each of these.
		require.Less(t, time.Since(began), pace.allow(time.Second))
		require.NoError(t, c.Close())
		require.NotNil(t, c.Raw())
		require.NotEmpty(t, c.Endpoints())
		require.NotEmpty(t, c.String())
	})
}

func TestClosedClientEndsWhatItHasBegun(t *testing.T) {
	t.Parallel()
	c, err := etcd.NewClient(config(server(t)))
	require.NoError(t, err)
	watch := c.Watch(t.Context(), "key")
	lease, err := c.Grant(t.Context(), time.Minute)
	require.NoError(t, err)
	alive, err := c.KeepAlive(t.Context(), lease)
	require.NoError(t, err)
	lock, err := c.NewLock("lock")
	require.NoError(t, err)
	require.NoError(t, lock.Lock(t.Context()))
	require.NoError(t, c.Close())

	require.ErrorIs(t, lastOf(watch), etcd.ErrClosed)
	for r := range alive {
		err = r.Err()
	}
	require.ErrorIs(t, err, etcd.ErrClosed)
	require.ErrorIs(t, lock.Lock(context.Background()), etcd.ErrClosed)
	require.ErrorIs(t, second(lock.TryLock(context.Background())), etcd.ErrClosed)
	require.ErrorIs(t, second(lock.IsLocked(context.Background())), etcd.ErrClosed)
	require.NoError(t, lock.Close())
}

// transacting returns the commit of a transaction.
func transacting(c *etcd.Client, then ...etcd.Op) func() error {
	return func() error { return second(c.Txn().Then(then...).Commit(context.Background())) }
}

// conditioned returns the commit of a transaction that has a condition.
func conditioned(c *etcd.Client, cond etcd.Condition) func() error {
	return func() error { return second(c.Txn().If(cond).Commit(context.Background())) }
}

// Keys and positions that are longer than they may be.
var (
	longKey     = strings.Repeat("k", etcd.DefaultMaxKeyBytes+1)
	farPosition = strings.Repeat("k", etcd.DefaultMaxRequestBytes+1)
)

func TestBadKeysAreRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx := t.Context()
		for key, want := range map[string]error{"": etcd.ErrEmptyKey, longKey: etcd.ErrTooLarge} {
			for name, call := range map[string]func() error{
				"Put":                      func() error { return c.Put(ctx, key, nil) },
				"Get":                      func() error { return second(c.Get(ctx, key)) },
				"GetKV":                    func() error { return second(c.GetKV(ctx, key)) },
				"Exists":                   func() error { return second(c.Exists(ctx, key)) },
				"Delete":                   func() error { return second(c.Delete(ctx, key)) },
				"PutIfNotExists":           func() error { return second(c.PutIfNotExists(ctx, key, nil)) },
				"PutIfChanged":             func() error { return second(c.PutIfChanged(ctx, key, nil)) },
				"Put with guard":           func() error { return c.Put(ctx, key, nil, etcd.WithGuard()) },
				"CopyKey from":             func() error { return c.CopyKey(ctx, key, "k") },
				"CopyKey to":               func() error { return c.CopyKey(ctx, "k", key) },
				"MoveKey from":             func() error { return c.MoveKey(ctx, key, "k") },
				"MoveKey to":               func() error { return c.MoveKey(ctx, "k", key) },
				"CompareAndSwap":           func() error { return second(c.CompareAndSwap(ctx, key, nil, nil)) },
				"CompareAndSwapRevision":   func() error { return second(c.CompareAndSwapRevision(ctx, key, 0, nil)) },
				"CompareAndDelete":         func() error { return second(c.CompareAndDelete(ctx, key, nil)) },
				"CompareAndDeleteRevision": func() error { return second(c.CompareAndDeleteRevision(ctx, key, 1)) },
				"Update":                   func() error { return c.Update(ctx, key, increment) },
				"BulkGet":                  func() error { return second(c.BulkGet(ctx, []string{key})) },
				"PutWithLease":             func() error { return c.PutWithLease(ctx, key, nil, 1) },
				"PutWithTTL":               func() error { return second(c.PutWithTTL(ctx, key, nil, time.Minute)) },
				"NewLock":                  func() error { return second(c.NewLock(key)) },
				"Watch":                    func() error { return lastOf(c.Watch(ctx, key)) },
				"Seal":                     func() error { return second(c.Seal(ctx, key, nil)) },
				"Unseal":                   func() error { return second(c.Unseal(ctx, key, nil)) },
				"OpPut":                    transacting(c, etcd.OpPut(key, nil)),
				"OpGet":                    transacting(c, etcd.OpGet(key)),
				"OpDelete":                 transacting(c, etcd.OpDelete(key)),
				"Value":                    conditioned(c, etcd.Value(key).Equal(nil)),
				"Exists condition":         conditioned(c, etcd.Exists(key)),
			} {
				requireRefused(t, o, name, want, call)
			}
		}
	})
}

func TestLongPrefixesAreRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx := t.Context()
		for name, call := range map[string]func() error{
			"List":              func() error { return second(c.List(ctx, longKey)) },
			"Export":            func() error { return second(c.Export(ctx, io.Discard, longKey)) },
			"ListWithValues":    func() error { return second(c.ListWithValues(ctx, longKey)) },
			"Count":             func() error { return second(c.Count(ctx, longKey)) },
			"DeletePrefix":      func() error { return second(c.DeletePrefix(ctx, longKey)) },
			"GetRange start":    func() error { return second(c.GetRange(ctx, farPosition, "")) },
			"GetRange end":      func() error { return second(c.GetRange(ctx, "", farPosition)) },
			"GetPrefix":         func() error { return second(c.GetPrefix(ctx, longKey, 0)) },
			"GetKeysByPattern":  func() error { return second(c.GetKeysByPattern(ctx, longKey+"*")) },
			"OpGetPrefix":       transacting(c, etcd.OpGetPrefix(longKey)),
			"OpGetRange start":  transacting(c, etcd.OpGetRange(farPosition, "")),
			"OpDeleteRange end": transacting(c, etcd.OpDeleteRange("", farPosition)),
			"OpTxn":             transacting(c, etcd.OpTxn(c.Txn().Else(etcd.OpPut(longKey, nil)))),
			"PrefixEmpty":       conditioned(c, etcd.PrefixEmpty(longKey)),
			"OfPrefix":          conditioned(c, etcd.Value(longKey).OfPrefix().Equal(nil)),
		} {
			requireRefused(t, o, name, etcd.ErrTooLarge, call)
		}
	})
}

func TestBadArgumentsAreRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx := t.Context()
		minus := []etcd.GetOption{etcd.WithRevision(-1)}
		for name, call := range map[string]func() error{
			"Get at -1":             func() error { return second(c.Get(ctx, "k", minus...)) },
			"Exists at -1":          func() error { return second(c.Exists(ctx, "k", minus...)) },
			"List at -1":            func() error { return second(c.List(ctx, "k", minus...)) },
			"Count at -1":           func() error { return second(c.Count(ctx, "k", minus...)) },
			"GetRange at -1":        func() error { return second(c.GetRange(ctx, "k", "", minus...)) },
			"OpGet at -1":           transacting(c, etcd.OpGet("k", minus...)),
			"Watch at -1":           func() error { return lastOf(c.Watch(ctx, "k", etcd.WithRevision(-1))) },
			"limit of -1":           func() error { return second(c.List(ctx, "k", etcd.WithLimit(-1))) },
			"GetPrefix -1":          func() error { return second(c.GetPrefix(ctx, "k", -1)) },
			"swap of revision -1":   func() error { return second(c.CompareAndSwapRevision(ctx, "k", -1, nil)) },
			"delete of revision 0":  func() error { return second(c.CompareAndDeleteRevision(ctx, "k", 0)) },
			"guard in Txn":          transacting(c, etcd.OpPut("k", nil, etcd.WithGuard())),
			"guard in swap":         func() error { return second(c.CompareAndSwap(ctx, "k", nil, nil, etcd.WithGuard())) },
			"guard in PutIfChanged": func() error { return second(c.PutIfChanged(ctx, "k", nil, etcd.WithGuard())) },
			"settle another error":  func() error { return second(c.Settle(ctx, context.Canceled)) },
			"zero Op":               transacting(c, etcd.Op{}),
			"zero Condition":        conditioned(c, etcd.Condition{}),
			"lock name with NUL":    func() error { return second(c.NewLock("a\x00b")) },
			"negative wait":         func() error { return second(c.NewLock("l", etcd.WithTryWait(-1))) },
		} {
			requireRefused(t, o, name, etcd.ErrInvalidArgument, call)
		}
	})
}

func TestBadTTLsAreRefusedUnsent(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx := t.Context()
		for name, call := range map[string]func() error{
			"Lease 0":      func() error { return second(c.Lease(0)) },
			"Lease -1":     func() error { return second(c.Lease(-1)) },
			"Lease huge":   func() error { return second(c.Lease(9_000_000_001)) },
			"Grant 0":      func() error { return second(c.Grant(ctx, 0)) },
			"Grant -1 s":   func() error { return second(c.Grant(ctx, -time.Second)) },
			"Grant huge":   func() error { return second(c.Grant(ctx, 1<<63-1)) },
			"PutWithTTL 0": func() error { return second(c.PutWithTTL(ctx, "k", nil, 0)) },
			"lock TTL 0":   func() error { return second(c.NewLock("l", etcd.WithLockTTL(0))) },
		} {
			requireRefused(t, o, name, etcd.ErrInvalidTTL, call)
		}
	})
}

func TestOverlappingOperationsAreRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		for name, call := range map[string]func() error{
			"put twice":             transacting(c, etcd.OpPut("k", nil), etcd.OpPut("k", []byte("2"))),
			"put and deleted":       transacting(c, etcd.OpPut("k", nil), etcd.OpDelete("k")),
			"deleted and put":       transacting(c, etcd.OpDelete("k"), etcd.OpPut("k", nil)),
			"put in deleted prefix": transacting(c, etcd.OpDeletePrefix("k"), etcd.OpPut("k/1", nil)),
			"put in everything":     transacting(c, etcd.OpDeletePrefix("", etcd.WithAllKeys()), etcd.OpPut("k", nil)),
			"put in last prefix":    transacting(c, etcd.OpDeletePrefix("\xff"), etcd.OpPut("\xffk", nil)),
		} {
			requireRefused(t, o, name, etcd.ErrDuplicateKey, call)
		}
	})
}

func TestOperationsSideBySideAreNotRefused(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx := t.Context()
		for _, call := range []func() error{
			transacting(c, etcd.OpDeletePrefix("k/"), etcd.OpPut("k", nil), etcd.OpPut("k0", nil)),
			transacting(c, etcd.OpDelete("k"), etcd.OpDelete("k"), etcd.OpGet("k"), etcd.OpPut("k2", nil)),
			transacting(c, etcd.OpDeletePrefix("\xff"), etcd.OpPut("k", nil)),
			func() error {
				return second(c.Txn().If(etcd.Exists("k")).Then(etcd.OpPut("k", nil)).Else(etcd.OpPut("k", nil)).Commit(ctx))
			},
		} {
			require.NoError(t, call())
		}
	})
}

func TestServerKnowsNoMoreThanTheClient(t *testing.T) {
	t.Parallel()
	// Limits that are higher here than there: the server's own refusals.
	srv := server(t, etcdtest.WithMaxTxnOps(2), etcdtest.WithMaxRequestBytes(10_000))
	c := client(t, config(srv))
	for name, tc := range map[string]struct {
		call func() error
		want error
	}{
		"operations": {func() error {
			return second(c.Txn().Then(etcd.OpPut("a", nil), etcd.OpPut("b", nil), etcd.OpPut("c", nil)).Commit(t.Context()))
		}, etcd.ErrTooManyOps},
		"bytes": {func() error { return c.Put(t.Context(), "k", make([]byte, 20_000)) }, etcd.ErrTooLarge},
	} {
		err := tc.call()
		require.ErrorIs(t, err, tc.want, name)
		assert.False(t, etcd.MaybeApplied(err), name)
		var e *etcd.Error
		require.ErrorAs(t, err, &e)
		assert.True(t, e.Sent)
	}
}
