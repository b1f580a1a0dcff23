package integration

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd"
)

// Stopped after each batch in turn and resumed from where it was, it gets to the
// end, and does nothing twice.
func TestReencryptResumesWhereverItWasStopped(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.seed(1000)
	plant(t, r.now, "/t", "plaintext")
	r.want["/t"] = "plaintext"
	var rewritten int64
	next, stops := "", 0
	for done := false; !done; stops++ {
		ctx, cancel := context.WithCancel(t.Context())
		report, err := r.now.Reencrypt(ctx, "", etcd.WithResumeAt(next), etcd.WithReencryptProgress(func(rep etcd.ReencryptReport) {
			if rep.Next != "" {
				require.Greater(t, rep.Next, next, "there is progress")
			}
			cancel()
		}))
		cancel()
		done = err == nil
		if !done {
			require.ErrorIs(t, err, context.Canceled)
			require.NotEmpty(t, report.Next)
		}
		require.Zero(t, report.Conflicts)
		require.LessOrEqual(t, report.Rewritten, int64(127), "it stops when it is told to")
		rewritten += report.Rewritten
		next = report.Next
	}
	require.Greater(t, stops, 7)
	require.Equal(t, int64(1001), rewritten)
	r.requireDone()
}

// A batch whose answer is lost was rewritten or was not: a run from there on
// settles it.
func TestReencryptResumesAfterALostAnswer(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.seed(300)
	ctx, cancel := context.WithCancel(t.Context())
	var batches atomic.Int64
	returned := make(chan struct{})
	r.seen.around(nil, func(req any) {
		if txn, ok := req.(*pb.TxnRequest); ok && writes(txn) && batches.Add(1) == 2 {
			cancel() // it is applied by now
			<-returned
		}
	})
	report, err := r.now.Reencrypt(ctx, "")
	close(returned)
	r.seen.around(nil, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, etcd.MaybeApplied(err))
	require.NotEmpty(t, report.Next)
	again, err := r.now.Reencrypt(t.Context(), "", etcd.WithResumeAt(report.Next))
	require.NoError(t, err)
	require.Equal(t, int64(300), report.Rewritten+again.Scanned)
	require.Less(t, again.Stale, again.Scanned, "what was applied is found to be done")
	r.requireDone()
}

// The ring loses its primary key while a run is under way.
func TestReencryptEndsWhereThePrimaryKeyIsLost(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.seed(300)
	ring := ringOf(t, r.b, r.a)
	c := client(t, config(r.srv).WithKeyring(ring).WithTimeout(busyTimeout))
	report, err := c.Reencrypt(t.Context(), "", etcd.WithReencryptProgress(func(etcd.ReencryptReport) {
		assert.NoError(t, ring.Replace(nil, r.a, r.b))
	}))
	require.ErrorIs(t, err, etcd.ErrNoPrimaryKey)
	require.Positive(t, report.Rewritten)
	_, err = r.now.Reencrypt(t.Context(), "", etcd.WithResumeAt(report.Next))
	require.NoError(t, err)
	r.requireDone()
}
