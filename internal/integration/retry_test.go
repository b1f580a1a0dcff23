package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// readsOfTheAPI are calls that change nothing.
func readsOfTheAPI(c *etcd.Client, key string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"get": func(ctx context.Context) error {
			_, err := c.Get(ctx, key)
			return err
		},
		"list": func(ctx context.Context) error {
			_, err := c.List(ctx, key)
			return err
		},
		"count": func(ctx context.Context) error {
			_, err := c.Count(ctx, key)
			return err
		},
		"read-only txn": func(ctx context.Context) error {
			_, err := c.Txn().If(etcd.Exists(key)).Then(etcd.OpGet(key)).Commit(ctx)
			return err
		},
		"bulk get": func(ctx context.Context) error {
			_, err := c.BulkGet(ctx, []string{key, key + "2"})
			return err
		},
	}
}

func TestReadIsRetriedUntilAPassingFaultEnds(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))
	key := prefix(t)
	require.NoError(t, c.Put(t.Context(), key, nil))

	passing := []error{
		status.Error(codes.Unavailable, "injected"),
		status.Error(codes.DeadlineExceeded, "injected"),
		status.Error(codes.Canceled, "injected"),
		status.Error(codes.Aborted, "injected"),
		status.Error(codes.Internal, "injected"),
		rpctypes.ErrGRPCRequestTooManyRequests,
		rpctypes.ErrGRPCNoLeader,
		rpctypes.ErrGRPCLeaderChanged,
		rpctypes.ErrGRPCTimeout,
		rpctypes.ErrGRPCTimeoutDueToLeaderFail,
		rpctypes.ErrGRPCTimeoutDueToConnectionLost,
		rpctypes.ErrGRPCTimeoutWaitAppliedIndex,
		rpctypes.ErrGRPCStopped,
		rpctypes.ErrGRPCUnhealthy,
	}
	for name, read := range readsOfTheAPI(c, key) {
		for _, answer := range passing {
			t.Run(name+"/"+status.Code(answer).String()+"/"+status.Convert(answer).Message(), func(t *testing.T) {
				t.Parallel()
				s := &script{answer: answer, times: 2, refuse: true}
				require.NoError(t, read(faults.follow(t.Context(), s)))
				require.Equal(t, int64(3), s.seen.Load())
			})
		}
	}
}

func TestPermanentFailureOfAReadIsNotRetried(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))
	key := prefix(t)
	require.NoError(t, c.Put(t.Context(), key, nil))

	for _, code := range []codes.Code{
		codes.Unknown, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.ResourceExhausted, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented,
		codes.DataLoss, codes.Unauthenticated,
	} {
		for name, read := range readsOfTheAPI(c, key) {
			s := &script{answer: status.Error(code, "injected"), refuse: true}
			err := read(faults.follow(t.Context(), s))
			require.Error(t, err, "%s, %v", name, code)
			assert.Equal(t, int64(1), s.seen.Load(), "%s, %v", name, code)
			assert.False(t, etcd.MaybeApplied(err), "%s, %v", name, code)
			assert.Equal(t, code, status.Code(errors.Unwrap(err)), "%s, %v", name, code)
		}
	}
}

func TestFailingReadIsRetriedWithExponentialBackoff(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))

	s := &script{answer: status.Error(codes.Unavailable, "injected"), refuse: true}
	_, err := c.Get(faults.follow(within(t, time.Second), s), "key")
	// 25 ms, doubled each time and cut by up to a half, is 6 or 7 waits a second;
	// a machine that is slow makes fewer.
	require.LessOrEqual(t, s.seen.Load(), int64(8))
	require.GreaterOrEqual(t, s.seen.Load(), int64(3))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, etcd.ErrTimeout)
	require.ErrorIs(t, err, etcd.ErrUnavailable, "the last answer is part of the error")
	require.ErrorContains(t, err, "injected")
	require.True(t, etcd.IsRetryable(err))
}

func TestTemporarilyRefusedWriteIsSentAgain(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))

	passing := &script{answer: rpctypes.ErrGRPCRequestTooManyRequests, times: 3, refuse: true}
	require.NoError(t, c.Put(faults.follow(t.Context(), passing), prefix(t), nil))
	require.Equal(t, int64(4), passing.seen.Load())
	require.Equal(t, int64(1), passing.executed.Load())

	var lasting *script
	var err error
	// The time may be up while an attempt is under way, whose end is not known then;
	// hardly each time, as most of it goes into the pauses.
	for tries := 0; tries < 10 && (tries == 0 || etcd.MaybeApplied(err)); tries++ {
		lasting = &script{answer: rpctypes.ErrGRPCRequestTooManyRequests, refuse: true}
		err = c.Put(faults.follow(within(t, time.Second), lasting), prefix(t), nil)
	}
	require.ErrorIs(t, err, etcd.ErrTooManyRequests)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, etcd.MaybeApplied(err))
	require.Greater(t, lasting.seen.Load(), int64(1))
}

// The server gives up waiting for a write that it has proposed; the write may
// still be applied.
func TestWriteTheServerGaveUpOnIsUnknown(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))

	for _, answer := range []error{
		rpctypes.ErrGRPCNoLeader,
		rpctypes.ErrGRPCLeaderChanged,
		rpctypes.ErrGRPCTimeout,
		rpctypes.ErrGRPCTimeoutDueToLeaderFail,
		rpctypes.ErrGRPCTimeoutDueToConnectionLost,
		rpctypes.ErrGRPCTimeoutWaitAppliedIndex,
		rpctypes.ErrGRPCStopped,
		rpctypes.ErrGRPCUnhealthy,
	} {
		s := &script{answer: answer}
		err := c.Put(faults.follow(t.Context(), s), prefix(t), nil)
		assert.ErrorIs(t, err, etcd.ErrUnavailable, answer)
		assert.True(t, etcd.MaybeApplied(err), answer)
		assert.True(t, etcd.IsRetryable(err), answer)
		assert.Equal(t, int64(1), s.executed.Load(), answer)
	}
	s := &script{answer: rpctypes.ErrGRPCNoLeader}
	require.ErrorIs(t, c.Put(faults.follow(t.Context(), s), prefix(t), nil), etcd.ErrNoLeader)
}

// The write that exceeds the quota is applied before the server answers it by "no
// space"; those after it are refused by the same words.
func TestAppliedWriteWithoutSpaceIsNeverCalledRefused(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithQuota(8<<20))
	c := client(t, config(srv).WithTimeout(busyTimeout))

	// All write until they are told to stop, so that some are between the check
	// at the door and their turn when the limit is met.
	type last struct {
		key string
		err error
	}
	lasts := make([]last, 64)
	var writers sync.WaitGroup
	for i := range lasts {
		writers.Go(func() {
			l := &lasts[i]
			for n := 0; l.err == nil; n++ {
				l.key = fmt.Sprintf("%s%d/%d", prefix(t), i, n)
				l.err = c.Put(t.Context(), l.key, make([]byte, 32<<10))
			}
		})
	}
	writers.Wait()
	applied := 0
	for _, l := range lasts {
		require.ErrorIs(t, l.err, etcd.ErrNoSpace)
		exists, err := c.Exists(t.Context(), l.key)
		require.NoError(t, err)
		if exists {
			applied++
			require.True(t, etcd.MaybeApplied(l.err), "%s was applied: %v", l.key, l.err)
		}
	}
	t.Logf("%d of %d writes were answered by \"no space\" and applied", applied, len(lasts))
}

func TestUnsentWriteIsSentWhenTheServerStarts(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	srv.Stop()
	c := client(t, config(srv).WithTimeout(busyTimeout).WithLazyConnect())

	s := &script{}
	put := make(chan error, 1)
	ctx := faults.follow(t.Context(), s)
	go func() { put <- c.Put(ctx, prefix(t), []byte("value")) }()
	select {
	case err := <-put:
		t.Fatalf("put returned while the server was down: %v", err)
	case <-time.After(200 * time.Millisecond): // that it goes on waiting has no signal
	}
	require.NoError(t, srv.Restart())
	require.NoError(t, <-put)
	require.Equal(t, int64(1), s.executed.Load())
	kv, err := c.GetKV(t.Context(), prefix(t))
	require.NoError(t, err)
	require.Equal(t, int64(1), kv.Version)
}

// A caller's own limit must not hide behind the road's: the error of a request
// that was cancelled for a reason holds the reason.
func TestCallerWhoGivesUpGetsTheOwnReason(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))

	reason := errors.New("the caller's reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	s := &script{answer: status.Error(codes.Unavailable, "injected"), refuse: true}
	got := make(chan error, 1)
	go func() {
		_, err := c.Get(faults.follow(ctx, s), "key")
		got <- err
	}()
	require.Eventually(t, func() bool { return s.seen.Load() > 0 }, patience, time.Millisecond)
	cancel(reason)
	err := <-got
	require.ErrorIs(t, err, reason)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, etcd.ErrTimeout)
	require.False(t, etcd.IsRetryable(err))
}
