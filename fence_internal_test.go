package etcd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWriteUnderWayAwaitsTheVerdict(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		end  func(parent, guarded context.CancelCauseFunc)
		want error
		// after is how long the write has then.
		after time.Duration
	}{
		"claim lost":   {func(_, guarded context.CancelCauseFunc) { guarded(errReleased) }, ErrLockLost, verdictPatience},
		"parent ended": {func(parent, _ context.CancelCauseFunc) { parent(context.Canceled) }, context.Canceled, 0},
		"both": {func(parent, guarded context.CancelCauseFunc) {
			guarded(errReleased)
			synctest.Wait()
			parent(context.Canceled)
		}, ErrLockLost, 0},
		"caller's own end": {func(_, guarded context.CancelCauseFunc) { guarded(context.Canceled) }, context.Canceled, 0},
		"deadline":         {func(context.CancelCauseFunc, context.CancelCauseFunc) {}, context.DeadlineExceeded, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				parent, endParent := context.WithCancelCause(t.Context())
				defer endParent(nil)
				outer := &fence{parent: parent}
				guarded, endGuarded := context.WithCancelCause(parent)
				defer endGuarded(nil)
				inner := &fence{parent: guarded, around: outer}
				ctx, cancel := context.WithTimeout(guarded, time.Minute)
				defer cancel()
				out, release := inner.outlasting(ctx)
				defer release()
				began := time.Now()
				row.end(endParent, endGuarded)
				<-out.Done()
				require.Equal(t, row.after, time.Since(began))
				require.ErrorIs(t, context.Cause(out), row.want)
			})
		})
	}
}

func TestFinishedGuardedWriteLeavesNoTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		guarded, lose := context.WithCancelCause(t.Context())
		out, release := (&fence{parent: t.Context()}).outlasting(guarded)
		release()
		require.Error(t, out.Err())
		lose(errReleased)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(out), context.Canceled)
	})
}
