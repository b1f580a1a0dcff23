package integration

import (
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
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
		require.NoError(t, m.Fresh(ctx)) // where a server has forgotten the deletion, this finds it
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
	direct *etcd.Client
	prefix string

	mu             sync.Mutex // a server without streams of ranges is asked for one, too
	reads, watches int        // how often it does so
	done           int
}

// arm has it do so for the next reads and watches.
func (c *compactor) arm(reads, watches int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads, c.watches = reads, watches
}

func (c *compactor) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

func (c *compactor) meddle(t *testing.T, left *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *left == 0 {
		return
	}
	*left--
	c.done++
	ctx := t.Context()
	assert.NoError(t, c.direct.Put(ctx, c.prefix+"k", []byte("compacted")))
	assert.NoError(t, second(c.direct.Delete(ctx, c.prefix+"gone")))
	var last etcd.WriteResult
	assert.NoError(t, c.direct.Put(ctx, c.prefix+"k", []byte(strconv.Itoa(c.done)), etcd.WithResult(&last)))
	assert.NoError(t, second(c.direct.Raw().Compact(ctx, last.Revision)))
}

// before sees the requests of a server.
func (c *compactor) before(t *testing.T) func(req any) {
	return func(req any) {
		switch req := req.(type) {
		case *pb.RangeRequest:
			if string(req.Key) == c.prefix && req.Revision > 0 {
				c.meddle(t, &c.reads)
			}
		case *pb.WatchRequest:
			if create := req.GetCreateRequest(); string(create.GetKey()) == c.prefix && create.GetStartRevision() > 0 {
				c.meddle(t, &c.watches)
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
	compactor.arm(2, 0) // while it is opened
	m := mirrorOf(t, c, p)
	require.Equal(t, 2, compactor.times())
	require.NoError(t, compactor.direct.Put(ctx, p+"gone", []byte("back")))
	require.NoError(t, m.Fresh(ctx))
	changes := changesOf(ctx, m)
	whileAway(t, proxy, compactor.direct, func() {
		require.NoError(t, compactor.direct.Put(ctx, p+"k", []byte("away")))
		compactor.arm(2, 3) // the watch that ends as compacted, and two after resyncs
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
	require.Equal(t, 7, compactor.times())
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
		compactor.arm(0, 3)
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
