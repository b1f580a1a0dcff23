package integration

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestBulkInChunksDoesAllOfIt(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		kvs, keys := small(2345)
		chunks := etcd.InChunks(etcd.WithChunkKeys(100), etcd.WithParallelism(3))
		require.Len(t, o.during(func() { assert.NoError(t, c.BulkPut(t.Context(), kvs, chunks)) }), 24)
		require.Len(t, o.during(func() {
			got, err := c.BulkGet(t.Context(), append(keys, "missing", keys[0]), chunks)
			assert.NoError(t, err)
			assert.Equal(t, kvs, got)
		}), 25) // one for the revision
		require.Len(t, o.during(func() {
			deleted, err := c.BulkDelete(t.Context(), append(keys, "missing", keys[0]), chunks)
			assert.NoError(t, err)
			assert.Equal(t, int64(len(keys)), deleted)
		}), 24)
		require.Empty(t, versions(t, c))
	})
}

func TestBulkInChunksOfNothingSendsNothing(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	require.Empty(t, o.during(func() {
		assert.NoError(t, c.BulkPut(t.Context(), nil, etcd.InChunks()))
		deleted, err := c.BulkDelete(t.Context(), nil, etcd.InChunks())
		assert.NoError(t, err)
		assert.Zero(t, deleted)
		values, err := c.BulkGet(t.Context(), nil, etcd.InChunks())
		assert.NoError(t, err)
		assert.Equal(t, map[string][]byte{}, values)
	}))
}

func TestChunksGoInTheOrderOfTheKeys(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv))
	kvs, keys := small(1000)
	one := etcd.InChunks(etcd.WithParallelism(1), etcd.WithChunkKeys(70))
	require.NoError(t, c.BulkPut(t.Context(), kvs, one))
	sent, most := chunks.seen()
	require.Equal(t, keys, slices.Concat(sent...))
	require.Equal(t, 1, most)

	slices.Reverse(keys)
	chunks.interfere(nil, nil)
	require.NoError(t, second(c.BulkDelete(t.Context(), keys, one)))
	sent, _ = chunks.seen()
	require.Equal(t, keys, slices.Concat(sent...))
}

func TestAsManyChunksAreUnderWayAsAllowed(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	for _, n := range []int{1, 2, 7} {
		// Each of the first n waits for the others.
		var arrived sync.WaitGroup
		arrived.Add(n)
		var count int
		var mu sync.Mutex
		chunks.interfere(func(context.Context, []string) error {
			mu.Lock()
			count++
			first := count <= n
			mu.Unlock()
			if first {
				arrived.Done()
				arrived.Wait()
			}
			return nil
		}, nil)
		kvs, _ := small(100)
		require.NoError(t, c.BulkPut(t.Context(), kvs, etcd.InChunks(etcd.WithChunkKeys(2), etcd.WithParallelism(n))))
		_, most := chunks.seen()
		require.Equal(t, n, most)
	}
}

func TestBulkGetInChunksIsOneMoment(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	kvs, keys := small(20)
	require.NoError(t, c.BulkPut(t.Context(), kvs))
	raw := c.Raw()
	chunks.interfere(func(ctx context.Context, keys []string) error {
		_, err := raw.Put(ctx, keys[0], "changed on the way")
		return err
	}, nil)
	get := func() (map[string][]byte, error) {
		return c.BulkGet(t.Context(), keys, etcd.InChunks(etcd.WithChunkKeys(3), etcd.WithParallelism(2)))
	}
	got, err := get()
	require.NoError(t, err)
	require.Equal(t, kvs, got)

	chunks.interfere(func(ctx context.Context, keys []string) error {
		if keys[0] != "small/00006" {
			return nil
		}
		resp, err := raw.Put(ctx, keys[0], "newer")
		if err == nil {
			_, err = raw.Compact(ctx, resp.Header.Revision)
		}
		return err
	}, nil)
	got, err = get()
	require.ErrorIs(t, err, etcd.ErrCompacted)
	failure := bulkErrorOf(t, err, keys)
	require.Subset(t, failure.NotApplied, keys[6:9])
	require.Empty(t, failure.Unknown)
	require.False(t, etcd.MaybeApplied(err))
	require.Len(t, got, len(failure.Applied))
}

// chunkedWrite is a bulk write in chunks of ten keys.
type chunkedWrite func(ctx context.Context, c *etcd.Client, keys []string) error

var changesInChunks = map[string]chunkedWrite{
	"put": func(ctx context.Context, c *etcd.Client, keys []string) error {
		kvs := map[string][]byte{}
		for _, key := range keys {
			kvs[key] = []byte(key)
		}
		return c.BulkPut(ctx, kvs, etcd.InChunks(etcd.WithChunkKeys(10)))
	},
	"delete": func(ctx context.Context, c *etcd.Client, keys []string) error {
		return second(c.BulkDelete(ctx, keys, etcd.InChunks(etcd.WithChunkKeys(10))))
	},
}

// requireDone holds that exactly the changes of these keys were made.
func requireDone(t *testing.T, c *etcd.Client, name string, done, notDone []string) {
	t.Helper()
	there := versions(t, c)
	for _, key := range done {
		_, ok := there[key]
		require.Equal(t, name == "put", ok, key)
	}
	for _, key := range notDone {
		_, ok := there[key]
		require.Equal(t, name == "delete", ok, key)
	}
}

func TestLostChunkAnswerLeavesOnlyThatChunkUnknown(t *testing.T) {
	t.Parallel()
	for name, change := range changesInChunks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, chunks := serverOfChunks(t)
			c := client(t, config(srv).WithTimeout(busyTimeout))
			kvs, keys := small(300)
			if name == "delete" {
				require.NoError(t, c.BulkPut(t.Context(), kvs))
			}
			chunks.interfere(nil, func(keys []string) error {
				if slices.Contains(keys, "small/00105") {
					return status.Error(codes.Unavailable, "lost")
				}
				return nil
			})
			err := change(t.Context(), c, keys)
			require.ErrorIs(t, err, etcd.ErrUnavailable)
			require.True(t, etcd.MaybeApplied(err))
			require.True(t, etcd.IsRetryable(err))
			failure := bulkErrorOf(t, err, keys)
			require.Equal(t, keys[100:110], failure.Unknown)
			require.Equal(t, keys[:100], failure.Applied[:100])
			require.NotEmpty(t, failure.NotApplied)
			requireDone(t, c, name, slices.Concat(failure.Applied, failure.Unknown), failure.NotApplied)

			chunks.interfere(nil, nil)
			require.NoError(t, change(t.Context(), c, failure.Remaining()))
			requireDone(t, c, name, keys, nil)
			if name == "put" {
				// Once each, and once more what was unknown.
				for key, version := range versions(t, c) {
					want := int64(1)
					if slices.Contains(failure.Unknown, key) {
						want = 2
					}
					require.Equal(t, want, version, key)
				}
			}
		})
	}
}

// The rest of a chunk that had to be cut was not sent when a piece of it fails.
func TestLostAnswerLeavesOnlyThatPieceUnknown(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t, etcdtest.WithMaxTxnOps(3))
	c := client(t, config(srv).WithTimeout(busyTimeout))
	_, keys := small(20)
	chunks.interfere(nil, func(sent []string) error {
		if slices.Contains(sent, keys[4]) {
			return status.Error(codes.Unavailable, "lost")
		}
		return nil
	})
	kvs := map[string][]byte{}
	for _, key := range keys {
		kvs[key] = nil
	}
	err := c.BulkPut(t.Context(), kvs, etcd.InChunks(etcd.WithChunkKeys(10), etcd.WithParallelism(1)))
	failure := bulkErrorOf(t, err, keys)
	require.Equal(t, keys[:4], failure.Applied)
	require.Equal(t, keys[4:6], failure.Unknown)
	require.Equal(t, keys[6:], failure.NotApplied)
	requireDone(t, c, "put", keys[:6], keys[6:])
}

func TestRefusedChunkIsNotApplied(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("root"), etcdtest.WithUser("u", "pw",
		etcdtest.Permission{Prefix: "mine/", Read: true, Write: true}))
	c := client(t, config(srv).WithAuth("u", "pw").WithTimeout(busyTimeout))
	root := client(t, config(srv).WithAuth("root", "root"))
	put := func(keys ...string) error {
		kvs := map[string][]byte{}
		for _, key := range keys {
			kvs[key] = nil
		}
		return c.BulkPut(t.Context(), kvs, etcd.InChunks(etcd.WithChunkKeys(2), etcd.WithParallelism(1)))
	}
	err := put("a", "mine/1", "mine/2", "mine/3")
	require.ErrorIs(t, err, etcd.ErrPermissionDenied)
	require.False(t, etcd.MaybeApplied(err), "nothing was applied")
	failure := bulkErrorOf(t, err, []string{"a", "mine/1", "mine/2", "mine/3"})
	require.Len(t, failure.NotApplied, 4)
	require.Empty(t, versions(t, root))

	err = put("mine/1", "mine/2", "mine/3", "z", "zz", "zzz")
	require.ErrorIs(t, err, etcd.ErrPermissionDenied)
	require.True(t, etcd.MaybeApplied(err), "a part was applied")
	failure = bulkErrorOf(t, err, []string{"mine/1", "mine/2", "mine/3", "z", "zz", "zzz"})
	require.Equal(t, []string{"mine/1", "mine/2"}, failure.Applied)
	require.Equal(t, []string{"mine/3", "z", "zz", "zzz"}, failure.NotApplied)
	var e *etcd.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "mine/3", e.Key)
	require.Equal(t, "bulk put", e.Op)
	require.ErrorContains(t, err, "of the keys 2 applied, 0 unknown, 4 not applied")
	require.Len(t, versions(t, root), 2)
}

func TestChunksAreCutToTheServersLimits(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		limit etcdtest.Option
		n     int
		most  int // requests of a load
	}{
		"bytes":      {etcdtest.WithMaxRequestBytes(4000), 600, 25},
		"operations": {etcdtest.WithMaxTxnOps(7), 600, 120},
		"one":        {etcdtest.WithMaxTxnOps(1), 100, 150},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, o := observedServer(t, tc.limit)
			c := client(t, config(srv).WithTimeout(busyTimeout))
			kvs, keys := small(tc.n)
			require.NoError(t, c.BulkPut(t.Context(), kvs, etcd.InChunks()))
			for key, version := range versions(t, c) {
				require.Equal(t, int64(1), version, key)
			}
			got, err := c.BulkGet(t.Context(), keys, etcd.InChunks())
			require.NoError(t, err)
			require.Equal(t, kvs, got)
			require.NoError(t, second(c.BulkDelete(t.Context(), keys, etcd.InChunks())))
			requests := o.during(func() {
				report, err := c.BulkLoad(t.Context(), maps.All(kvs), etcd.WithParallelism(1))
				assert.NoError(t, err)
				assert.Equal(t, int64(len(kvs)), report.Applied)
			})
			require.Len(t, versions(t, c), len(kvs))
			// Some were refused at first, and none of the others.
			require.Less(t, len(requests), tc.most)
		})
	}
}

func TestCancellationOfChunksIsReported(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	_, keys := small(500)
	ctx, cancel := context.WithCancel(t.Context())
	chunks.interfere(func(called context.Context, keys []string) error {
		if keys[0] == "small/00200" {
			cancel()
			<-called.Done() // else the answer may come first
		}
		return nil
	}, nil)
	err := changesInChunks["put"](ctx, c, keys)
	require.ErrorIs(t, err, context.Canceled)
	failure := bulkErrorOf(t, err, keys)
	require.NotEmpty(t, failure.NotApplied)
	require.Subset(t, failure.Remaining(), keys[200:210])
	requireDone(t, c, "put", failure.Applied, failure.NotApplied)

	chunks.interfere(nil, nil)
	require.NoError(t, changesInChunks["put"](t.Context(), c, failure.Remaining()))
	requireDone(t, c, "put", keys, nil)
}

func TestChunksReportAndResumeAfterABrokenConnection(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()).WithTimeout(busyTimeout))
	_, keys := small(2000)
	var once sync.Once
	chunks.interfere(nil, func(keys []string) error {
		if slices.Contains(keys, "small/01000") {
			once.Do(proxy.Cut)
		}
		return nil
	})
	rest := keys
	for tries := 0; len(rest) > 0; tries++ {
		require.Less(t, tries, 10)
		err := changesInChunks["put"](within(t, busyTimeout), c, rest)
		if err == nil {
			break
		}
		failure := bulkErrorOf(t, err, rest)
		requireDone(t, c, "put", failure.Applied, failure.NotApplied)
		rest = failure.Remaining()
		slices.Sort(rest)
	}
	requireDone(t, c, "put", keys, nil)
}

func TestChunksKeepTheirPutOptions(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithTimeout(busyTimeout))
	ctx := t.Context()
	lease, err := c.Grant(ctx, time.Minute)
	require.NoError(t, err)
	kvs, keys := small(95)
	chunks := etcd.InChunks(etcd.WithChunkKeys(10), etcd.WithParallelism(1))
	err = c.BulkPut(ctx, kvs, chunks, etcd.WithLease(lease+1))
	require.ErrorIs(t, err, etcd.ErrLeaseNotFound)
	require.Equal(t, keys, bulkErrorOf(t, err, keys).NotApplied)
	err = c.BulkPut(ctx, kvs, etcd.WithIgnoreLease(), chunks)
	require.ErrorIs(t, err, etcd.ErrKeyNotFound)
	require.False(t, etcd.MaybeApplied(err))

	for _, put := range []func(opts ...etcd.AnyPutOption) error{
		func(opts ...etcd.AnyPutOption) error {
			return c.BulkPut(ctx, kvs, chunks, opts[0])
		},
		func(opts ...etcd.AnyPutOption) error {
			return second(c.BulkLoad(ctx, maps.All(kvs), etcd.WithChunkKeys(10), opts[0]))
		},
	} {
		for _, option := range []etcd.AnyPutOption{etcd.WithLease(lease), etcd.WithIgnoreLease()} {
			require.NoError(t, put(option))
			status, err := c.TimeToLive(ctx, lease)
			require.NoError(t, err)
			require.Len(t, status.Keys, len(kvs))
		}
		require.NoError(t, put(etcd.WithLease(0)))
		status, err := c.TimeToLive(ctx, lease)
		require.NoError(t, err)
		require.Empty(t, status.Keys)
	}
}

func TestBadChunkArgumentsAreRefusedUnsent(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx := t.Context()
	kvs, keys := small(100)
	one := etcd.InChunks(etcd.WithChunkKeys(1))
	long := "small/00050" + string(make([]byte, etcd.DefaultMaxKeyBytes))
	for key, want := range map[string]error{"": etcd.ErrEmptyKey, long: etcd.ErrTooLarge} {
		bad := maps.Clone(kvs)
		bad[key] = nil
		requireRefused(t, o, "put", want, func() error { return c.BulkPut(ctx, bad, one) })
		requireRefused(t, o, "delete", want, func() error { return second(c.BulkDelete(ctx, append(keys, key), one)) })
		requireRefused(t, o, "get", want, func() error { return second(c.BulkGet(ctx, append(keys, key), one)) })
	}
	large := maps.Clone(kvs)
	large["small/00050"] = make([]byte, tooLargeValue)
	requireRefused(t, o, "large", etcd.ErrTooLarge, func() error { return c.BulkPut(ctx, large, one) })

	var none etcd.BulkOption
	var noChunk etcd.ChunkOption
	var noLoad etcd.LoadOption
	for name, call := range map[string]func() error{
		"no parallelism":    func() error { return c.BulkPut(ctx, kvs, etcd.InChunks(etcd.WithParallelism(0))) },
		"negative":          func() error { return second(c.BulkGet(ctx, keys, etcd.InChunks(etcd.WithParallelism(-1)))) },
		"empty chunks":      func() error { return second(c.BulkDelete(ctx, keys, etcd.InChunks(etcd.WithChunkKeys(0)))) },
		"nil put option":    func() error { return c.BulkPut(ctx, kvs, nil) },
		"nil option":        func() error { return second(c.BulkGet(ctx, keys, none)) },
		"nil delete option": func() error { return second(c.BulkDelete(ctx, keys, none)) },
		"nil chunk option":  func() error { return c.BulkPut(ctx, kvs, etcd.InChunks(noChunk)) },
		"nil load option":   func() error { return second(c.BulkLoad(ctx, maps.All(kvs), noLoad)) },
		"load nothing":      func() error { return second(c.BulkLoad(ctx, nil)) },
		"load no chunks":    func() error { return second(c.BulkLoad(ctx, maps.All(kvs), etcd.WithChunkKeys(-1))) },
		"load in no chunk":  func() error { return second(c.BulkLoad(ctx, maps.All(kvs), etcd.WithParallelism(0))) },
	} {
		requireRefused(t, o, name, etcd.ErrInvalidArgument, call)
	}
}
