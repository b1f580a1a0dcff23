//go:build proxies

package integration

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// proxied is a server behind a program, and clients of both.
type proxied struct {
	*observer
	srv    *etcdtest.Server
	box    *middlebox
	config func() *etcd.Config // of clients that come by the program
	direct *etcd.Client        // comes by nothing
}

// behind returns a server behind a program with the usual settings but for set.
func behind(t *testing.T, kind middleboxKind, set settings) *proxied {
	t.Helper()
	srv, o := observedServer(t)
	box := newMiddlebox(t, kind, []string{strings.TrimPrefix(srv.Endpoint(), "http://")}, set)
	return &proxied{
		observer: o, srv: srv, box: box,
		config: func() *etcd.Config { return etcd.DefaultConfig().WithEndpoints(box.addr) },
		direct: client(t, config(srv)),
	}
}

// requireEverything has traffic while f runs, and holds that each write was executed as
// its caller was told, and that a watch by the program has seen each.
func (p *proxied) requireEverything(t *testing.T, f func(tr *traffic)) {
	t.Helper()
	tr := newTraffic(t)
	// Not bounded by the patience with one answer: they last as long as the traffic.
	atServer := follow(t, p.direct.WatchPrefix(t.Context(), tr.prefix, etcd.WithRevision(1)))
	c, other := client(t, p.config()), client(t, p.config())
	atClient := follow(t, c.WatchPrefix(t.Context(), tr.prefix, etcd.WithRevision(1)))
	tr.run(c, []*etcd.Client{other}, func() { f(tr) })

	// What comes last is told to both watches last.
	last := tr.prefix + "last"
	require.NoError(t, p.direct.Put(t.Context(), last, nil))
	kv, err := p.direct.GetKV(t.Context(), last)
	require.NoError(t, err)
	history := atServer(kv.ModRevision)
	tr.requireExecutedOnce(history)
	require.Equal(t, tellAll(history), tellAll(atClient(kv.ModRevision)), "what the watch was told")
}

// hard are settings that end the connections of a former worker a second after a
// reload, and usual leaves them to their clients.
func reloads(kind middleboxKind) map[string]settings {
	hard := settings{global: "hard-stop-after 1s"}
	if kind.name == nginx.name {
		hard.global = "worker_shutdown_timeout 1s;"
	}
	return map[string]settings{"usual": {}, "hard": hard}
}

func TestTrafficThroughReloadsIsExecutedAsTold(t *testing.T) {
	t.Parallel()
	for _, kind := range middleboxKinds {
		for name, set := range reloads(kind) {
			t.Run(kind.name+" "+name, func(t *testing.T) {
				t.Parallel()
				p := behind(t, kind, set)
				p.requireEverything(t, func(tr *traffic) {
					const times = 5
					for range times {
						tr.more(1000)
						former := p.box.count(kind.former)
						p.box.reload()
						if name == "hard" {
							require.True(t, p.box.await(kind.former, former+1, patience), "the former worker stays")
						}
					}
					tr.more(1000)
				})
			})
		}
	}
}

// shortTimeouts end a stream or a connection on which nothing has passed for a second.
var shortTimeouts = map[string]struct {
	kind middleboxKind
	set  settings
	cut  bool // of a stream on which etcd is silent
}{
	// Renewals and the requests of others on the connection keep it open.
	"haproxy tcp, timeout client": {haproxyTCP, settings{server: "  timeout client 1s"}, false},
	"haproxy tcp, timeout server": {haproxyTCP, settings{servers: "  timeout server 1s"}, false},
	"haproxy h2, timeout client":  {haproxyHTTP2, settings{server: "  timeout client 1s"}, false},
	"haproxy h2, timeout server":  {haproxyHTTP2, settings{servers: "  timeout server 1s"}, true},
	"nginx, grpc_read_timeout":    {nginx, settings{server: "    grpc_read_timeout 1s;"}, true},
	"nginx, client_body_timeout":  {nginx, settings{server: "    client_body_timeout 1s;"}, true},
	"nginx, keepalive_timeout":    {nginx, settings{server: "    keepalive_timeout 1s;"}, false},
}

func TestQuietWatchesAndLocksOutliveShortTimeouts(t *testing.T) {
	t.Parallel()
	for name, tc := range shortTimeouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := behind(t, tc.kind, tc.set)
			c, key, ctx := client(t, p.config()), prefix(t), within(t, 2*patience)
			holder := newLock(t, c, key+"lock", etcd.WithLockTTL(3*time.Second))
			require.NoError(t, holder.Lock(ctx))
			waiter := newLock(t, client(t, p.config()), key+"lock")
			waited := make(chan error, 1)
			go func() { waited <- waiter.Lock(ctx) }()
			watch := c.Watch(ctx, key)
			queues(t, p.direct, key+"lock", 2)

			streams := 0
			methods := p.during(func() {
				for i := range 5 {
					quiet := time.NewTimer(1500 * time.Millisecond)
					select {
					case <-quiet.C:
					case <-holder.Context().Done():
						require.Fail(t, "the lock is lost")
					}
					require.NoError(t, p.direct.Put(ctx, key, []byte(strconv.Itoa(i))))
					require.Equal(t, strconv.Itoa(i), string(events(t, watch, 1)[0].Kv.Value))
				}
			})
			for _, method := range methods {
				if method == "Watch" {
					streams++
				}
			}
			t.Logf("%d streams of watches were opened in 7.5 s", streams)
			if tc.cut {
				require.Positive(t, streams)
			}
			require.Empty(t, waited)
			require.NoError(t, holder.Unlock(ctx))
			require.NoError(t, next(t, waited))
			require.NoError(t, waiter.Unlock(ctx))
		})
	}
}

func TestWatchesPastAStreamLimitLeaveRequestsRoom(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind middleboxKind
		set  settings
	}{
		{haproxyHTTP2, settings{global: "  tune.h2.max-concurrent-streams 100"}},
		{nginx, settings{server: "    http2_max_concurrent_streams 128;"}},
	} {
		t.Run(tc.kind.name, func(t *testing.T) {
			t.Parallel()
			p := behind(t, tc.kind, tc.set)
			c, key, ctx := client(t, p.config()), prefix(t), within(t, 2*patience)
			const n = 300
			watches := make([]etcd.WatchChan, n)
			for i := range watches {
				watches[i] = c.Watch(ctx, key+strconv.Itoa(i))
			}
			l := newLock(t, c, key+"lock")
			require.NoError(t, l.Lock(ctx))
			for i, watch := range watches {
				require.NoError(t, c.Put(ctx, key+strconv.Itoa(i), []byte("v")))
				require.Equal(t, "v", string(events(t, watch, 1)[0].Kv.Value))
			}
			require.NoError(t, l.Unlock(ctx))
		})
	}
}

func TestConnectionsThatEndAfterSomeRequestsLoseNothing(t *testing.T) {
	t.Parallel()
	p := behind(t, nginx, settings{server: "    keepalive_requests 50;"})
	p.requireEverything(t, func(tr *traffic) { tr.more(5000) })
}

func TestRequestPastABodyLimitNamesTheSetting(t *testing.T) {
	t.Parallel()
	p := behind(t, nginx, settings{server: "    client_max_body_size 1m;"})
	c, key, ctx := client(t, p.config()), prefix(t), within(t, patience)
	err := c.Put(ctx, key, largeValue(t, 1200<<10))
	t.Log(err)
	require.ErrorIs(t, err, etcd.ErrTooLarge)
	require.NotContains(t, err.Error(), "<html>")
	require.ErrorIs(t, second(p.direct.Get(ctx, key)), etcd.ErrKeyNotFound)
	require.NoError(t, c.Put(ctx, key, largeValue(t, 900<<10)))

	usual := behind(t, nginx, settings{})
	require.NoError(t, client(t, usual.config()).Put(ctx, key, largeValue(t, 1200<<10)))
}
