package etcd_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// arrivals notes when requests arrived.
type arrivals struct {
	mu    sync.Mutex
	times []time.Time
}

func (a *arrivals) note() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = append(a.times, time.Now())
	return len(a.times)
}

// The waits between attempts are 25 ms, doubled up to a second, of which up to a
// half is cut at random.
func TestWaitsBetweenAttemptsDoubleUpToASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen arrivals
		c := stubClient(t, &stub{get: func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
			seen.note()
			return nil, status.Error(codes.Unavailable, "no")
		}})
		began := time.Now()
		_, err := c.Get(t.Context(), "key")
		require.ErrorIs(t, err, etcd.ErrTimeout)
		require.ErrorIs(t, err, etcd.ErrUnavailable)
		require.Equal(t, etcd.DefaultRequestTimeout, time.Since(began), "to the nanosecond")

		require.GreaterOrEqual(t, len(seen.times), 9)
		require.LessOrEqual(t, len(seen.times), 15)
		most := 25 * time.Millisecond
		for i := 1; i < len(seen.times); i++ {
			wait := seen.times[i].Sub(seen.times[i-1])
			require.GreaterOrEqual(t, wait, most/2, "wait %d", i)
			require.LessOrEqual(t, wait, most, "wait %d", i)
			most = min(2*most, time.Second)
		}
	})
}

func TestDeadlineOfTheCallerReplacesTheDefault(t *testing.T) {
	for _, d := range []time.Duration{time.Millisecond, time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			c := stubClient(t, &stub{put: func(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}, func(cfg *etcd.Config) { cfg.RequestTimeout = 5 * time.Second })
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			began := time.Now()
			err := c.Put(ctx, "key", nil)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.True(t, etcd.MaybeApplied(err))
			require.Equal(t, d, time.Since(began))
		})
	}
}

// A write is not sent again because time is left.
func TestWriteIsSentOnceWhateverTimeIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
			var seen arrivals
			c := stubClient(t, &stub{put: func(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
				seen.note()
				return nil, status.Error(code, "proxy")
			}})
			err := c.Put(t.Context(), "key", nil)
			require.Error(t, err)
			require.True(t, etcd.MaybeApplied(err), code)
			require.Len(t, seen.times, 1, code)
		}
	})
}

// attemptsHook notes what a hook is told.
type attemptsHook struct {
	before, after int
	last          etcd.ResultInfo
}

func (h *attemptsHook) BeforeRequest(ctx context.Context, _ etcd.RequestInfo) context.Context {
	h.before++
	return ctx
}

func (h *attemptsHook) AfterRequest(_ context.Context, _ etcd.RequestInfo, res etcd.ResultInfo) {
	h.after++
	h.last = res
}

func TestHookSeesAllAttemptsAsOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen arrivals
		hook := &attemptsHook{}
		c := stubClient(t, &stub{get: func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
			if seen.note() < 4 {
				return nil, status.Error(codes.Unavailable, "not yet")
			}
			return &pb.RangeResponse{Count: 1}, nil
		}}, func(cfg *etcd.Config) { cfg.WithHooks(hook) })
		began := time.Now()
		_, err := c.Count(t.Context(), "key")
		require.NoError(t, err)
		require.Equal(t, 1, hook.before)
		require.Equal(t, 1, hook.after)
		require.Equal(t, etcd.ResultInfo{Attempts: 4, Duration: time.Since(began)}, hook.last)
	})
}

func TestCancelledRequestEndsAtOnceWithTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stubClient(t, &stub{put: func(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		ctx, cancel := context.WithCancelCause(t.Context())
		began := time.Now()
		time.AfterFunc(time.Second, func() { cancel(etcd.ErrLockLost) })
		err := c.Put(ctx, "key", nil)
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, etcd.ErrLockLost)
		require.True(t, etcd.MaybeApplied(err))
		require.False(t, etcd.IsRetryable(err))
	})
}

// lateContext is one whose timer is late: its deadline passes, and it goes on.
type lateContext struct {
	context.Context
	deadline time.Time
}

func (c lateContext) Deadline() (time.Time, bool) { return c.deadline, true }

func TestDeadlineTheServerSeesFirstIsTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stubClient(t, &stub{put: func(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}})
		err := c.Put(lateContext{t.Context(), time.Now().Add(time.Second)}, "key", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, etcd.ErrTimeout)
		require.True(t, etcd.MaybeApplied(err))
	})
}
