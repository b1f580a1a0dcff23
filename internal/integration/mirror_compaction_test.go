package integration

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// The watch begins at exactly the revision that was compacted, and at which the key was
// deleted.
func TestMirrorTellsADeletionAtTheCompactedRevision(t *testing.T) {
	t.Parallel()
	for _, missed := range []int{1, 2} {
		o := newOutage(t, etcd.DefaultConfig(), server(t))
		p, ctx := prefix(t), within(t, patience)
		require.NoError(t, o.direct.Put(ctx, p+"gone", []byte("old")))
		require.NoError(t, o.direct.Put(ctx, p+"kept", []byte("old")))
		m := mirrorOf(t, o.c, p)
		changes := changesOf(ctx, m)
		require.NoError(t, m.Fresh(ctx))
		o.begin()
		if missed == 2 {
			require.NoError(t, o.direct.Put(ctx, p+"gone", []byte("unseen")))
		}
		require.NoError(t, second(o.direct.Delete(ctx, p+"gone")))
		compactAll(t, o.direct)
		o.proxy.Heal()
		got := next(t, changes)
		require.Equal(t, "deleted "+p+"gone: old -> ", strings.TrimSuffix(changeText(got), " (resync)"))
		equalsServer(t, o.c, m, p)
		require.NoError(t, o.direct.Put(ctx, p+"kept", []byte("new")))
		require.Equal(t, "updated "+p+"kept: old -> new", changeText(next(t, changes)))
	}
}

// compactor makes changes and compacts them, each time a client is about to read a prefix
// at a revision, or to watch it from one.
type compactor struct {
	direct         *etcd.Client
	prefix         string
	reads, watches atomic.Int64 // how often it does so
	done           atomic.Int64
}

func (c *compactor) before(t *testing.T) func(req any) {
	meddle := func(left *atomic.Int64, key []byte) {
		if string(key) != c.prefix || left.Add(-1) < 0 {
			return
		}
		c.done.Add(1)
		require.NoError(t, c.direct.Put(t.Context(), c.prefix+"k", []byte("compacted")))
		require.NoError(t, c.direct.Put(t.Context(), c.prefix+"k", []byte{byte('0' + c.done.Load())}))
		require.NoError(t, second(c.direct.Delete(t.Context(), c.prefix+"gone")))
		compactAll(t, c.direct)
	}
	return func(req any) {
		switch req := req.(type) {
		case *pb.RangeRequest:
			if len(req.RangeEnd) > 0 && req.Revision > 0 {
				meddle(&c.reads, req.Key)
			}
		case *pb.WatchRequest:
			if create := req.GetCreateRequest(); create != nil && create.StartRevision > 0 {
				meddle(&c.watches, create.Key)
			}
		}
	}
}

// compactedServer returns a server that compacts under the hands of its clients, the proxy
// to it, and a client that goes past that.
func compactedServer(t *testing.T) (*etcdtest.Proxy, *compactor) {
	t.Helper()
	srv, o := observedServer(t)
	c := &compactor{direct: client(t, config(srv)), prefix: prefix(t)}
	o.around(c.before(t), nil)
	return etcdtest.NewProxy(t, srv.Endpoint()), c
}

func TestMirrorOutlivesResyncsThatOvertakeEachOther(t *testing.T) {
	t.Parallel()
	proxy, compactor := compactedServer(t)
	p, ctx := compactor.prefix, within(t, patience)
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	require.NoError(t, compactor.direct.Put(ctx, p+"gone", []byte("old")))
	require.NoError(t, compactor.direct.Put(ctx, p+"k", []byte("old")))
	compactor.reads.Store(2) // while it is opened
	m := mirrorOf(t, c, p)
	require.EqualValues(t, 2, compactor.done.Load())
	require.NoError(t, compactor.direct.Put(ctx, p+"gone", []byte("back")))
	require.NoError(t, m.Fresh(ctx))
	changes := changesOf(ctx, m)
	whileAway(t, proxy, compactor.direct, func() {
		require.NoError(t, compactor.direct.Put(ctx, p+"k", []byte("away")))
		compactor.reads.Store(2)
		compactor.watches.Store(3) // the one that ends as compacted, and two after resyncs
	})
	state := map[string]string{p + "gone": "back", p + "k": "2"}
	for state[p+"k"] != "7" {
		got := next(t, changes)
		require.Equal(t, state[got.Key], string(got.Old.Value), "a value that no change has led to")
		if got.New.Key == "" {
			delete(state, got.Key)
		} else {
			state[got.Key] = string(got.New.Value)
		}
	}
	require.Equal(t, map[string]string{p + "k": "7"}, state)
	require.Equal(t, state, held(m))
	equalsServer(t, compactor.direct, m, p)
	require.EqualValues(t, 7, compactor.done.Load())
	require.GreaterOrEqual(t, m.Status().Resyncs, int64(2))
}

func TestWatchOutlivesResyncsThatOvertakeEachOther(t *testing.T) {
	t.Parallel()
	proxy, compactor := compactedServer(t)
	p, ctx := compactor.prefix, within(t, patience)
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	w := c.WatchPrefix(ctx, p, etcd.WithResync())
	require.NoError(t, compactor.direct.Put(ctx, p+"gone", []byte("old")))
	events(t, w, 1)
	whileAway(t, proxy, compactor.direct, func() {
		compactor.watches.Store(3)
	})
	resyncs := 0
	for last := ""; last != "3"; {
		r := next(t, w)
		require.NoError(t, r.Err())
		if r.State == etcd.WatchResynced {
			resyncs++
			require.Len(t, r.Events, 1, "gone is gone")
		}
		for _, e := range r.Events {
			if e.Kv.Key == p+"k" {
				last = string(e.Kv.Value)
			}
		}
	}
	require.Equal(t, 3, resyncs)
	require.NoError(t, compactor.direct.Put(ctx, p+"k", []byte("after")))
	require.Equal(t, "after", string(events(t, w, 1)[0].Kv.Value))
}
