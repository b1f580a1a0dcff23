package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestLoadStoresEverythingAndReportsProgress(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		const n = 12_345
		_, keys := small(n)
		var reports []etcd.LoadReport
		var last etcd.LoadReport
		requests := o.during(func() {
			var err error
			last, err = c.BulkLoad(t.Context(), inTurn(keys), etcd.WithLoadProgress(func(r etcd.LoadReport) { reports = append(reports, r) }))
			assert.NoError(t, err)
		})
		const chunks = (n + etcd.DefaultChunkKeys - 1) / etcd.DefaultChunkKeys
		require.Len(t, requests, chunks)
		require.Len(t, reports, chunks)
		for i, r := range reports {
			require.Equal(t, int64(min(etcd.DefaultChunkKeys*(i+1), n)), r.Applied)
			require.True(t, i == 0 || r.Revision >= reports[i-1].Revision && r.Bytes > reports[i-1].Bytes)
		}
		require.Equal(t, reports[chunks-1], last)
		require.Equal(t, revisionOf(t, c), last.Revision)
		require.GreaterOrEqual(t, last.Bytes, int64(2*n*len(keys[0])))
		got, err := c.ListWithValues(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, got, n)
		for key, value := range got {
			require.Equal(t, key, string(value))
		}
	})
}

func TestLoadOfNothingSendsNothing(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	require.Empty(t, o.during(func() {
		report, err := c.BulkLoad(t.Context(), inTurn(nil))
		assert.NoError(t, err)
		assert.Zero(t, report)
	}))
}

// An iterator may use one buffer for all of its values, as a bufio.Scanner does.
func TestLoadKeepsNothingOfTheIterator(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		_, keys := small(3000)
		buffer := make([]byte, 0, 100)
		require.NoError(t, second(c.BulkLoad(t.Context(), func(yield func(string, []byte) bool) {
			for _, key := range keys {
				buffer = append(buffer[:0], key...)
				if !yield(key, buffer) {
					return
				}
			}
		})))
		got, err := c.ListWithValues(t.Context(), "")
		require.NoError(t, err)
		for key, value := range got {
			require.Equal(t, key, string(value))
		}
	})
}

func TestLoadKeepsTheLastValueOfAKey(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	chunks.interfere(func(context.Context, []string) error {
		<-time.After(rand.N(3 * time.Millisecond)) // chunks overtake each other
		return nil
	}, nil)
	for _, distinct := range []int{1, 10, 100, 1000} {
		const n = 400
		want := map[string][]byte{}
		report, err := c.BulkLoad(t.Context(), func(yield func(string, []byte) bool) {
			for i := range n {
				key, value := fmt.Sprintf("%d/%d", distinct, rand.N(distinct)), fmt.Append(nil, i)
				want[key] = value
				if !yield(key, value) {
					return
				}
			}
		}, etcd.WithChunkKeys(7), etcd.WithParallelism(8))
		require.NoError(t, err)
		require.Equal(t, int64(n), report.Applied)
		got, err := c.ListWithValues(t.Context(), fmt.Sprintf("%d/", distinct))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// The iterator is asked for no more than what is under way and one chunk.
func TestLoadReadsNoFurtherThanItsChunks(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	_, keys := small(1000)
	const each, parallel = 10, 3
	var yielded, most atomic.Int64
	chunks.interfere(nil, func(sent []string) error {
		first := int64(slices.Index(keys, sent[0]))
		most.Store(max(most.Load(), yielded.Load()-first))
		return nil
	})
	require.NoError(t, second(c.BulkLoad(t.Context(), func(yield func(string, []byte) bool) {
		for key, value := range inTurn(keys) {
			yielded.Add(1)
			if !yield(key, value) {
				return
			}
		}
	}, etcd.WithChunkKeys(each), etcd.WithParallelism(parallel))))
	require.LessOrEqual(t, most.Load(), int64((parallel+1)*each+1))
}

func TestLostAnswerEndsALoadWhichIsResumed(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	_, keys := small(500)
	chunks.interfere(nil, func(sent []string) error {
		if sent[0] == keys[200] {
			return status.Error(codes.DeadlineExceeded, "lost")
		}
		return nil
	})
	ten := etcd.WithChunkKeys(10)
	report, err := c.BulkLoad(t.Context(), inTurn(keys), ten)
	require.ErrorIs(t, err, etcd.ErrTimeout)
	require.True(t, etcd.MaybeApplied(err))
	require.Equal(t, int64(200), report.Applied)
	var e *etcd.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, keys[200], e.Key)
	outcome, err := c.Settle(t.Context(), err)
	require.NoError(t, err)
	require.Equal(t, etcd.OutcomeUnknown, outcome, "one chunk speaks for no other")
	there := versions(t, c)
	require.GreaterOrEqual(t, len(there), 210)
	require.LessOrEqual(t, len(there), 240, "no more than those under way")

	chunks.interfere(nil, nil)
	_, err = resume(t.Context(), c, keys, report, ten)
	require.NoError(t, err)
	again := versions(t, c)
	require.Len(t, again, len(keys))
	for i, key := range keys {
		want := int64(1)
		if int64(i) >= report.Applied && there[key] > 0 {
			want = 2
		}
		require.Equal(t, want, again[key], key)
	}
}

// A failure that is certain leaves the others that were under way uncertain.
func TestLoadReportsWhetherMoreMayBeStored(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	_, keys := small(100)
	for _, parallel := range []int{1, 2} {
		other := make(chan struct{})
		chunks.interfere(func(_ context.Context, sent []string) error {
			if sent[0] != keys[50] {
				return nil
			}
			if parallel > 1 {
				<-other // the next one has been applied
			}
			return status.Error(codes.PermissionDenied, "etcdserver: permission denied")
		}, func(sent []string) error {
			if sent[0] == keys[60] {
				close(other)
			}
			return nil
		})
		report, err := c.BulkLoad(t.Context(), inTurn(keys), etcd.WithChunkKeys(10), etcd.WithParallelism(parallel))
		require.ErrorIs(t, err, etcd.ErrPermissionDenied)
		require.Equal(t, int64(50), report.Applied)
		require.Equal(t, parallel > 1, etcd.MaybeApplied(err))
		require.Len(t, versions(t, c), 50+10*(parallel-1))
	}
}

func TestUnstorableValueEndsALoadWithoutItsChunk(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	_, keys := small(100)
	for name, tc := range map[string]struct {
		key   string
		value []byte
		want  error
	}{
		"empty key":   {"", nil, etcd.ErrEmptyKey},
		"long key":    {string(make([]byte, etcd.DefaultMaxKeyBytes+1)), nil, etcd.ErrTooLarge},
		"large value": {"k", make([]byte, tooLargeValue), etcd.ErrTooLarge},
	} {
		var report etcd.LoadReport
		var err error
		requests := o.during(func() {
			report, err = c.BulkLoad(t.Context(), func(yield func(string, []byte) bool) {
				for i, key := range keys {
					if i == 55 && !yield(tc.key, tc.value) || i != 55 && !yield(key, nil) {
						return
					}
				}
			}, etcd.WithChunkKeys(10))
		})
		require.ErrorIs(t, err, tc.want, name)
		require.False(t, etcd.MaybeApplied(err), name)
		require.Equal(t, int64(50), report.Applied, name)
		require.Len(t, requests, 5, name)
		require.Len(t, versions(t, c), 50, name)
	}
}

func TestLoadPanicReachesTheCallerAndLeavesNothing(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	hook := &panicHook{}
	c := client(t, config(srv).WithTimeout(busyTimeout).WithHooks(hook))
	_, keys := small(100)
	held := make(chan struct{}, 100)
	chunks.interfere(func(ctx context.Context, sent []string) error {
		if sent[0] != keys[0] {
			held <- struct{}{}
			<-ctx.Done() // ends with the load
		}
		return nil
	}, nil)
	one := etcd.WithChunkKeys(1)
	for name, load := range map[string]func(){
		"iterator": func() {
			_, _ = c.BulkLoad(t.Context(), func(yield func(string, []byte) bool) {
				for key, value := range inTurn(keys[:3]) {
					yield(key, value)
				}
				<-held
				panic("mine")
			}, one)
		},
		"progress": func() {
			_, _ = c.BulkLoad(t.Context(), inTurn(keys), one, etcd.WithLoadProgress(func(etcd.LoadReport) { panic("mine") }))
		},
		"hook": func() {
			hook.key.Store(&keys[1])
			defer hook.key.Store(nil)
			_, _ = c.BulkLoad(t.Context(), inTurn(keys[:2]), one)
		},
		"hook in chunks": func() {
			hook.key.Store(&keys[1])
			defer hook.key.Store(nil)
			_ = c.BulkPut(t.Context(), map[string][]byte{keys[0]: nil, keys[1]: nil}, etcd.InChunks(etcd.WithChunkKeys(1)))
		},
	} {
		require.PanicsWithValue(t, "mine", load, name)
		require.Zero(t, hook.underWay.Load(), name)
	}
	chunks.interfere(nil, nil)
	require.NoError(t, second(c.BulkLoad(t.Context(), inTurn(keys))))
}

// panicHook panics at the request of a key, and counts those under way.
type panicHook struct {
	key      atomic.Pointer[string]
	underWay atomic.Int64
}

func (h *panicHook) BeforeRequest(ctx context.Context, r etcd.RequestInfo) context.Context {
	if key := h.key.Load(); key != nil && r.Key == *key {
		panic("mine")
	}
	h.underWay.Add(1)
	return ctx
}

func (h *panicHook) AfterRequest(context.Context, etcd.RequestInfo, etcd.ResultInfo) {
	h.underWay.Add(-1)
}

func TestCancelledLoadEndsAtOnce(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	_, keys := small(100)
	ctx, cancel := context.WithCancel(t.Context())
	chunks.interfere(func(ctx context.Context, sent []string) error {
		if sent[0] == keys[50] {
			cancel()
			<-ctx.Done()
		}
		return nil
	}, nil)
	report, err := c.BulkLoad(ctx, inTurn(keys), etcd.WithChunkKeys(10), etcd.WithParallelism(1))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, int64(50), report.Applied)
	var asked int
	_, err = c.BulkLoad(ctx, func(yield func(string, []byte) bool) {
		for asked = 1; yield("k", nil); asked++ {
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, etcd.MaybeApplied(err))
	require.Equal(t, 1, asked)
}

func TestClosedClientEndsALoad(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c, err := etcd.NewClient(config(srv).WithTimeout(busyTimeout))
	require.NoError(t, err)
	arrived := make(chan struct{})
	var once sync.Once
	chunks.interfere(func(ctx context.Context, _ []string) error {
		once.Do(func() { close(arrived) })
		<-ctx.Done()
		return ctx.Err()
	}, nil)
	ended := make(chan error)
	go func() {
		_, keys := small(100)
		ended <- second(c.BulkLoad(context.Background(), inTurn(keys), etcd.WithChunkKeys(10)))
	}()
	<-arrived
	require.NoError(t, c.Close())
	require.ErrorIs(t, <-ended, etcd.ErrClosed)
}

func TestLoadOverABrokenConnectionIsResumed(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()).WithTimeout(busyTimeout))
	_, keys := small(5000)
	cuts := map[string]bool{keys[1000]: true, keys[2000]: true, keys[3000]: true}
	var mu sync.Mutex
	chunks.interfere(nil, func(sent []string) error {
		mu.Lock()
		defer mu.Unlock()
		for _, key := range sent {
			if cuts[key] {
				delete(cuts, key)
				proxy.Cut()
			}
		}
		return nil
	})
	var done int64
	for tries := 0; done < int64(len(keys)); tries++ {
		require.Less(t, tries, 10)
		report, err := resume(t.Context(), c, keys, etcd.LoadReport{Applied: done}, etcd.WithChunkKeys(50))
		done += report.Applied
		there := versions(t, c)
		for _, key := range keys[:done] {
			require.NotZero(t, there[key], key)
		}
		if err == nil {
			break
		}
		require.True(t, etcd.MaybeApplied(err))
	}
	require.Len(t, versions(t, c), len(keys))
}
