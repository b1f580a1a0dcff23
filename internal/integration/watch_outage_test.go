package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// outage is a client that has lost its cluster, and one beside it that has not.
type outage struct {
	proxy     *etcdtest.Proxy
	c, direct *etcd.Client
}

func newOutage(t *testing.T, cfg *etcd.Config, srv *etcdtest.Server) outage {
	t.Helper()
	o := outage{proxy: etcdtest.NewProxy(t, srv.Endpoint()), direct: client(t, config(srv))}
	o.c = client(t, cfg.WithEndpoints(o.proxy.Endpoint()).WithTimeout(300*time.Millisecond))
	return o
}

func (o outage) begin() {
	o.proxy.Refuse()
	o.proxy.Cut()
}

func TestWatchBegunInAnOutageMissesNothing(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, o.direct.Put(ctx, p+"before", nil))
	require.NoError(t, second(o.c.Revision(ctx)))
	o.begin()
	all, one, forward := o.c.WatchPrefix(ctx, p), o.c.Watch(ctx, p+"k"), o.c.WatchPrefix(ctx, p, etcd.WithWatchStatus())
	require.NoError(t, o.direct.Put(ctx, p+"k", []byte("1")))
	require.NoError(t, o.direct.Put(ctx, p+"k", []byte("2")))
	o.proxy.Heal()
	require.Equal(t, []string{"PUT 1", "PUT 2"}, eventsOf(t, all, 2))
	require.Equal(t, []string{"PUT 1", "PUT 2"}, eventsOf(t, one, 2))
	require.Equal(t, etcd.WatchInterrupted, next(t, forward).State)
	registered := next(t, forward)
	require.Equal(t, etcd.WatchRegistered, registered.State)
	events := next(t, forward).Events
	require.Equal(t, registered.Revision+1, events[0].Kv.ModRevision)
}

// What a client sees by its watches alone is not told again.
func TestWatchBegunInOutageStartsAfterSeenEvents(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	p, ctx := prefix(t), within(t, patience)
	seen := o.c.WatchPrefix(ctx, p)
	require.NoError(t, o.direct.Put(ctx, p+"k", []byte("seen")))
	require.Equal(t, []string{"PUT seen"}, eventsOf(t, seen, 1))
	o.begin()
	w := o.c.Watch(ctx, p+"k")
	require.NoError(t, o.direct.Put(ctx, p+"k", []byte("missed")))
	o.proxy.Heal()
	require.Equal(t, []string{"PUT missed"}, eventsOf(t, w, 1))
}

func TestWatchBegunInAnOutageTellsACompaction(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, second(o.c.Revision(ctx)))
	o.begin()
	w := o.c.WatchPrefix(ctx, p)
	for range 3 {
		require.NoError(t, o.direct.Put(ctx, p+"k", nil))
	}
	compactAll(t, o.direct)
	o.proxy.Heal()
	last := next(t, w)
	require.ErrorIs(t, last.Err(), etcd.ErrCompacted)
	require.Equal(t, revisionOf(t, o.direct), last.CompactRevision)
}

func TestWatchBegunInAnOutageTellsARestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir))
	o := newOutage(t, etcd.DefaultConfig(), srv)
	p, ctx := prefix(t), within(t, patience)
	backup := copied(t, srv, dir)
	for range 20 {
		require.NoError(t, o.direct.Put(ctx, p+"k", nil))
	}
	require.Eventually(t, func() bool { return second(o.c.Revision(ctx)) == nil }, patience, time.Millisecond)
	o.begin()
	w := o.c.WatchPrefix(ctx, p)
	putBack(t, srv, dir, backup)
	o.proxy.Heal()
	require.ErrorIs(t, lastError(t, w), etcd.ErrRevisionRegressed)

	o.begin()
	w = o.c.WatchPrefix(ctx, p)
	require.NoError(t, o.direct.Put(ctx, p+"k", []byte("anew")))
	o.proxy.Heal()
	require.Equal(t, []string{"PUT anew"}, eventsOf(t, w, 1))
}

// The client has not had a single answer when Watch returns.
func TestWatchBegunBeforeAnyAnswerMissesNothingLater(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	srv := server(t, tapped(func(ctx context.Context) error {
		select {
		case <-open:
		case <-ctx.Done():
		}
		return nil
	}, nil, nil))
	o := newOutage(t, etcd.DefaultConfig().WithLazyConnect(), srv)
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, o.direct.Put(ctx, p+"k", []byte("listed")))
	o.begin()
	w := o.c.WatchPrefix(ctx, p)
	o.proxy.Heal()
	require.Eventually(t, func() bool {
		value, err := o.c.Get(ctx, p+"k")
		return err == nil && string(value) == "listed"
	}, patience, time.Millisecond)
	require.NoError(t, o.direct.Put(ctx, p+"k", []byte("changed")))
	close(open)
	require.Equal(t, []string{"PUT changed"}, eventsOf(t, w, 1))
}
