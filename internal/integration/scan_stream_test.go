package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestServerWithoutRangeStreamsIsAskedOnce(t *testing.T) {
	t.Parallel()
	f := &streams{unsupported: true}
	c := client(t, config(streamingServer(t, f)))
	fill(t, c, prefix(t), 200)
	for range 3 {
		require.Len(t, scan(t, c.Scan(t.Context(), prefix(t))), 200)
	}
	require.Equal(t, int64(1), f.begun.Load())
}

// Wherever the consumer stops, by a break or by a panic, nothing is left behind:
// no stream in the server and no goroutine here.
func TestScanThatIsLeftLeavesNothingBehind(t *testing.T) {
	for _, unsupported := range []bool{false, true} {
		f := &streams{unsupported: unsupported}
		c := client(t, config(streamingServer(t, f)))
		p := prefix(t)
		fill(t, c, p, 5000)
		require.Len(t, scan(t, c.Scan(t.Context(), p)), 5000)
		f.idle(t)
		before := goleak.IgnoreCurrent()
		for _, reverse := range []bool{false, true} {
			for _, at := range []int{1, 64, 65, 75, 576, 577, 3000, 5000} {
				n := 0
				for _, err := range c.Scan(t.Context(), p, selection{reverse: reverse}.options()...) {
					require.NoError(t, err)
					if n++; n == at {
						break
					}
				}
				f.idle(t)
				require.Panics(t, func() {
					n := 0
					for _, err := range c.Scan(t.Context(), p, selection{reverse: reverse}.options()...) {
						require.NoError(t, err)
						if n++; n == at {
							panic("in the loop")
						}
					}
				})
				f.idle(t)
			}
		}
		require.NoError(t, goleak.Find(before))
	}
}

func TestStreamThatBreaksGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	f := &streams{}
	c := client(t, config(streamingServer(t, f)).WithTimeout(busyTimeout))
	p := prefix(t)
	for part := int64(2); part <= 8; part++ {
		fill(t, c, p, 1000)
		all := list(t, c, p)
		for _, s := range []selection{{}, {limit: 200}, {limit: 999}, {keysOnly: true}} {
			begun := f.begun.Load()
			f.before(part, func(context.Context) error { return status.Error(codes.Unavailable, "broken") })
			var got []etcd.KeyValue
			for kv, err := range c.Scan(t.Context(), p, s.options()...) {
				require.NoError(t, err)
				if got = append(got, kv); len(got) == 1 {
					require.NoError(t, c.Put(t.Context(), p+"00900+", nil), "it is at one revision all the same")
				}
			}
			require.Equal(t, s.of(all), got, "broken at part %d, %+v", part, s)
			require.LessOrEqual(t, f.begun.Load()-begun, int64(2))
			require.NoError(t, second(c.Delete(t.Context(), p+"00900+")))
		}
	}
}

// A stream that breaks behind the last key that is wanted leaves nothing to ask
// for, or nothing to find.
func TestStreamBrokenAfterTheLastKeyIsComplete(t *testing.T) {
	t.Parallel()
	f := &streams{}
	srv := streamingServer(t, f)
	c := client(t, config(srv))
	fill(t, c, prefix(t), 100)
	for limit, begun := range map[int64]int64{70: 1, 100: 1, 0: 2} {
		if !hasRangeStream(t, srv) {
			begun = 1 - min(f.begun.Load(), 1) // asked for once, in vain
		}
		before := f.begun.Load()
		f.endWith(status.Error(codes.Unavailable, "broken"))
		want := 100
		if limit > 0 {
			want = int(limit)
		}
		require.Len(t, scan(t, c.Scan(t.Context(), prefix(t), etcd.WithLimit(limit))), want)
		f.idle(t)
		require.Equal(t, begun, f.begun.Load()-before, "limit %d", limit)
	}
}

// A server without range streams takes the place of one that has them, as during
// an upgrade: the scan goes on in pages.
func TestScanGoesOnWithoutTheStreamThatBroke(t *testing.T) {
	t.Parallel()
	f := &streams{}
	srv := streamingServer(t, f)
	c := client(t, config(srv))
	fill(t, c, prefix(t), 3000)
	all := list(t, c, prefix(t))
	if hasRangeStream(t, srv) { // others say so by themselves
		f.before(4, func(context.Context) error {
			return status.Error(codes.Unimplemented, "unknown method RangeStream")
		})
	}
	require.Equal(t, all, scan(t, c.Scan(t.Context(), prefix(t))))
}

func TestScanSurvivesCutConnections(t *testing.T) {
	for way, unsupported := range map[string]bool{"stream": false, "pages": true} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := &streams{unsupported: unsupported}
			srv := streamingServer(t, f)
			proxy := etcdtest.NewProxy(t, srv.Endpoint())
			direct := client(t, config(srv).WithTimeout(busyTimeout))
			c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()).WithTimeout(busyTimeout))
			p := prefix(t)
			const n = 8000
			value := make([]byte, 1000)
			for i := 0; i < n; i += 1000 {
				kvs := map[string][]byte{}
				for j := range 1000 {
					kvs[fmt.Sprintf("%s%05d", p, i+j)] = value
				}
				require.NoError(t, direct.BulkPut(t.Context(), kvs))
			}
			for _, reverse := range []bool{false, true} {
				var got []string
				for kv, err := range c.Scan(t.Context(), p, selection{reverse: reverse}.options()...) {
					require.NoError(t, err)
					require.Len(t, kv.Value, len(value))
					if got = append(got, kv.Key); len(got)%2000 == 1 {
						proxy.Cut()
					}
				}
				want, err := direct.List(t.Context(), p)
				require.NoError(t, err)
				if reverse {
					for i, key := range want {
						require.Equal(t, key, got[len(got)-1-i])
					}
				}
				require.Len(t, got, n)
				if !reverse {
					require.Equal(t, want, got)
				}
			}
		})
	}
}

func TestSilentServerEndsAScan(t *testing.T) {
	inEachWay(t, func(t *testing.T, other *etcd.Client, f *streams) {
		p := prefix(t)
		fill(t, other, p, 3000)
		const timeout = time.Second
		c := client(t, etcd.DefaultConfig().WithEndpoints(other.Endpoints()...).WithTimeout(timeout))
		for part := int64(1); part <= 3; part++ {
			require.Len(t, scan(t, other.Scan(t.Context(), p)), 3000)
			pace, began := keepPace(t), time.Now()
			f.before(part, silent)
			_, err := collect(t, c.Scan(t.Context(), p))
			require.ErrorIs(t, err, etcd.ErrTimeout)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.True(t, etcd.IsRetryable(err))
			require.GreaterOrEqual(t, time.Since(began), timeout)
			require.Less(t, time.Since(began), pace.allow(10*timeout))
		}
		f.idle(t)
	})
}

func TestSlowConsumerDoesNotEndAScan(t *testing.T) {
	inEachWay(t, func(t *testing.T, other *etcd.Client, _ *streams) {
		fill(t, other, prefix(t), 3000)
		const timeout = 2 * time.Second
		c := client(t, etcd.DefaultConfig().WithEndpoints(other.Endpoints()...).WithTimeout(timeout))
		n := 0
		for _, err := range c.Scan(t.Context(), prefix(t)) {
			require.NoError(t, err)
			if n++; n == 5 || n == 100 {
				<-time.After(timeout + timeout/4) // the consumer's work
			}
		}
		require.Equal(t, 3000, n)
	})
}

// Of two ways to a server one goes silent; the stream is taken up on the other
// within the time of one request.
func TestScanLeavesASilentEndpoint(t *testing.T) {
	t.Parallel()
	f := &streams{}
	srv := streamingServer(t, f)
	one, two := etcdtest.NewProxy(t, srv.Endpoint()), etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(one.Endpoint(), two.Endpoint()).WithTimeout(4*time.Second))
	fill(t, client(t, config(srv).WithTimeout(busyTimeout)), prefix(t), 3000)
	all := list(t, c, prefix(t))
	part, streams := int64(5), int64(2)
	if !hasRangeStream(t, srv) {
		part, streams = 4, 1 // the last page; the stream was asked for in vain
	}
	f.before(part, silent)
	require.Equal(t, all, scan(t, c.Scan(t.Context(), prefix(t))))
	require.Equal(t, streams, f.begun.Load())
}

func TestStreamWithExpiredTokenGetsANewOne(t *testing.T) {
	t.Parallel()
	f := &streams{}
	c := client(t, config(streamingServer(t, f, etcdtest.WithAuth("password"))).WithAuth("root", "password"))
	fill(t, c, prefix(t), 3000)
	all := list(t, c, prefix(t))
	for part := int64(2); part < 5; part++ {
		f.before(part, func(context.Context) error { return rpctypes.ErrGRPCInvalidAuthToken })
		require.Equal(t, all, scan(t, c.Scan(t.Context(), prefix(t))))
	}
}

func TestConcurrentScansAreEachComplete(t *testing.T) {
	inEachWay(t, func(t *testing.T, c *etcd.Client, f *streams) {
		p := prefix(t)
		fill(t, c, p, 3000)
		all := list(t, c, p)
		seq := c.Scan(t.Context(), p) // shared, as it may be
		var scans sync.WaitGroup
		for i := range 8 {
			scans.Go(func() {
				s := selection{limit: 3000 - i*300, reverse: i%2 == 1}
				var got []etcd.KeyValue
				for kv, err := range c.Scan(t.Context(), p, s.options()...) {
					if !assert.NoError(t, err) {
						return
					}
					got = append(got, kv)
				}
				assert.Equal(t, s.of(all), got)
				n := 0
				for _, err := range seq {
					assert.NoError(t, err)
					n++
				}
				assert.Equal(t, len(all), n)
			})
		}
		scans.Wait()
		f.idle(t)
	})
}
