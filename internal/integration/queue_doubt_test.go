package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// A settlement that finds another one of doubtful outcome applied is no success.
func TestSettlementInDoubtIsNoOthersSuccess(t *testing.T) {
	t.Parallel()
	type settle = func(ctx context.Context, j *jobqueue.Job[string]) error
	with := func(key string) settle {
		return func(ctx context.Context, j *jobqueue.Job[string]) error { return j.AckWith(ctx, etcd.OpPut(key, nil)) }
	}
	ack := func(ctx context.Context, j *jobqueue.Job[string]) error { return j.Ack(ctx) }
	nack := func(ctx context.Context, j *jobqueue.Job[string]) error { return j.Nack(ctx, 0) }
	later := func(ctx context.Context, j *jobqueue.Job[string]) error { return j.Nack(ctx, patience) }
	bury := func(ctx context.Context, j *jobqueue.Job[string]) error { return j.Bury(ctx, "no") }
	waits, delayed, dies := jobqueue.Counts{Ready: 1}, jobqueue.Counts{Delayed: 1}, jobqueue.Counts{Dead: 1}
	for name, tc := range map[string]struct {
		first, second settle
		want          error
		holds         jobqueue.Counts
	}{
		"other writes":  {with("first"), with("second"), jobqueue.ErrSettled, jobqueue.Counts{}},
		"same writes":   {with("first"), with("first"), nil, jobqueue.Counts{}},
		"further write": {ack, with("second"), jobqueue.ErrSettled, jobqueue.Counts{}},
		"no writes":     {with("first"), ack, nil, jobqueue.Counts{}},
		"ack, nack":     {with("first"), nack, jobqueue.ErrSettled, jobqueue.Counts{}},
		"nack, ack":     {nack, with("second"), jobqueue.ErrSettled, waits},
		"nack, bury":    {nack, bury, jobqueue.ErrSettled, waits},
		"bury, nack":    {bury, nack, jobqueue.ErrSettled, dies},
		"nack twice":    {nack, nack, nil, waits},
		"other delay":   {later, nack, jobqueue.ErrSettled, delayed},
		"bury twice":    {bury, bury, nil, dies},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, faults := faultyServer(t)
			c := client(t, config(srv))
			q := openQueueOf[string](t, c, "q")
			push(t, q, "a")
			j := popped(t, q)
			require.True(t, etcd.MaybeApplied(tc.first(leavesInDoubt(t, faults), j)))
			err := tc.second(within(t, patience), j)
			require.ErrorIs(t, err, tc.want)
			require.False(t, etcd.MaybeApplied(err))
			require.ErrorIs(t, j.Ack(t.Context()), jobqueue.ErrSettled)
			there, err := c.Exists(t.Context(), "second")
			require.NoError(t, err)
			require.False(t, there)
			holds(t, q, tc.holds)
		})
	}
}

// leavesInDoubt returns a context for a write that is carried out, and not known to be.
func leavesInDoubt(t *testing.T, faults *faults) context.Context {
	t.Helper()
	s := &script{answer: status.Error(codes.Unavailable, "lost"), writesOnly: true}
	ctx, cancel := context.WithCancel(faults.follow(t.Context(), s))
	s.arrived = func(context.Context) {
		if s.seen.Load() > 1 { // the first is certainly carried out
			cancel()
		}
	}
	return ctx
}
