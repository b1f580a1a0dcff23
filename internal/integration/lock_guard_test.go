package integration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// unguardedMethods are those that take a context and write no keys.
var unguardedMethods = map[string][]string{
	"Client": {
		"BulkGet", "Count", "Events", "EncryptionStatus", "Exists", "Export", "Get", "GetKV", "GetKeysByPattern", "GetMultiple",
		"GetPrefix", "GetRange", "GetWithRevision", "Grant", "KeepAlive", "KeepAliveOnce", "List", "ListWithValues", "NewSession",
		"Range", "RequestProgress", "Revision", "RevokeLease", "Scan", "Seal", "Settle", "TimeToLive", "Unseal", "Watch", "WatchPrefix", "WatchRange",
		"Reencrypt", // has a test of its own
	},
	"Typed": {"All", "Get", "List", "Range", "Watch"},
}

func TestGuardedWritesAreAllThatThereAre(t *testing.T) {
	t.Parallel()
	contextType := reflect.TypeFor[context.Context]()
	for name, typ := range map[string]reflect.Type{
		"Client": reflect.TypeFor[*etcd.Client](), "Typed": reflect.TypeFor[*etcd.Typed[string]](), "Txn": reflect.TypeFor[*etcd.Txn](),
	} {
		for i := range typ.NumMethod() {
			m := typ.Method(i)
			if m.Type.NumIn() < 2 || m.Type.In(1) != contextType {
				continue
			}
			guarded := slices.ContainsFunc(slices.Collect(maps.Keys(guardedWrites)), func(call string) bool {
				return call == name+"."+m.Name || strings.HasPrefix(call, name+"."+m.Name+" ")
			})
			require.NotEqual(t, guarded, slices.Contains(unguardedMethods[name], m.Name), "%s.%s must be in one of guardedWrites and unguardedMethods", name, m.Name)
		}
	}
}

// observeGuards has a server look for what is bound to locks.
func observeGuards(t *testing.T, o *observer) *fenceGuard {
	t.Helper()
	g := &fenceGuard{stall: make(chan struct{})}
	o.around(g.see, nil)
	t.Cleanup(func() { close(g.stall) })
	return g
}

func TestGuardedWritesCarryTheClaim(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		g := observeGuards(t, o)
		for name, w := range guardedWrites {
			p := prefix(t) + name + "/"
			if w.prepare != nil {
				require.NoError(t, w.prepare(t.Context(), c, p))
			}
			lock, ctx, key := guarding(t, c, "/locks"+p)
			g.watchFor(key, lock.Token())
			require.NoError(t, w.call(ctx, c, p), name)
			writes, unbound := g.found()
			g.watchFor("", 0)
			require.Positive(t, writes, name)
			require.Empty(t, unbound, name)
			require.NoError(t, lock.Unlock(ctx), name)
		}
	})
}

// What reads or grants may be a write one day.
func TestOtherCallsWriteNothingUnguarded(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	g := observeGuards(t, o)
	lock, ctx, key := guarding(t, c, prefix(t)+"lock")
	g.watchFor(key, lock.Token())
	for _, name := range unguardedMethods["Client"] {
		if call := calls[name]; call != nil && !strings.HasPrefix(name, "Watch") && name != "Events" { // which end with the context
			_ = call(ctx, c)
		}
	}
	_, unbound := g.found()
	require.Empty(t, unbound)
}

func TestStaleHoldersWritesAreRefusedAndNotApplied(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		observeGuards(t, o) // so that the client can't know that the key is gone
		for name, w := range guardedWrites {
			p := prefix(t) + name + "/"
			if w.prepare != nil {
				require.NoError(t, w.prepare(t.Context(), c, p))
			}
			lock, ctx, key := guarding(t, c, "/locks"+p)
			require.NoError(t, second(c.Raw().Delete(t.Context(), key)))
			before := stateOf(t, c)
			err := w.call(ctx, c, p)
			require.ErrorIs(t, err, etcd.ErrLockLost, name)
			require.ErrorIs(t, err, etcd.ErrLockKeyDeleted, name)
			require.False(t, etcd.MaybeApplied(err), "%s: %v", name, err)
			require.False(t, etcd.IsRetryable(err), name)
			require.NotErrorIs(t, err, etcd.ErrConditionFailed, name)
			e, ok := errors.AsType[*etcd.Error](err)
			require.True(t, ok, name)
			// Of several chunks one may be refused before another, the first in order, is sent.
			chunks := strings.Contains(name, "BulkLoad") || strings.Contains(name, "InChunks")
			require.True(t, e.Sent || chunks, "%s: the server decided", name)
			require.Equal(t, before, stateOf(t, c), "%s: nothing has changed", name)

			closes(t, ctx.Done()) // the answer tells the holder
			require.ErrorIs(t, context.Cause(ctx), etcd.ErrLockKeyDeleted, name)
			require.ErrorIs(t, context.Cause(lock.Context()), etcd.ErrLockLost, name)
			err = w.call(context.WithoutCancel(ctx), c, p)
			require.ErrorIs(t, err, etcd.ErrLockLost, name)
			require.False(t, etcd.MaybeApplied(err), "%s: %v", name, err)
			require.Equal(t, before, stateOf(t, c), name)
			require.ErrorIs(t, lock.Unlock(ctx), etcd.ErrLockLost, name)
		}
	})
}

// stateOf returns the revision of a server and what it holds, without the claims of locks.
func stateOf(t testing.TB, c *etcd.Client) string {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), "", clientv3.WithPrefix())
	require.NoError(t, err)
	var out strings.Builder
	for _, kv := range resp.Kvs {
		if !strings.Contains(string(kv.Key), "\x00") { // those inside WithLock come and go
			fmt.Fprintln(&out, kv.String())
		}
	}
	return out.String()
}

func TestGuardCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		lock, ctx, _ := guarding(t, c, prefix(t)+"lock")
		defer func() { require.NoError(t, lock.Unlock(ctx)) }()
		requests := func(ctx context.Context, w guardedWrite, p string) int {
			if w.prepare != nil {
				require.NoError(t, w.prepare(t.Context(), c, p))
			}
			seen := o.during(func() { require.NoError(t, w.call(ctx, c, p)) })
			return len(slices.DeleteFunc(slices.Clone(seen), func(method string) bool { return strings.HasPrefix(method, "Lease") || method == "Watch" }))
		}
		for name, w := range guardedWrites {
			p := prefix(t) + name + "/"
			plain, guarded := 0, -1
			for range 3 { // a check of the lock's key may come in between
				plain, guarded = requests(t.Context(), w, p+"plain/"), requests(ctx, w, p+"guarded/")
				if plain == guarded {
					break
				}
				p += "again/"
			}
			assert.Equal(t, plain, guarded, name)
		}
	})
}
