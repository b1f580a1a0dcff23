package queue

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// After a pause a caller may ask before the goroutine has run that ends the context.
func TestJobContextLooksAtItsSession(t *testing.T) {
	t.Parallel()
	session, lose := context.WithCancelCause(t.Context())
	ctx, cancel := context.WithCancelCause(t.Context())
	job := jobContext{ctx, session, cancel}
	derived, end := context.WithCancel(job)
	defer end()
	require.NoError(t, job.Err())
	lose(etcd.ErrLeaseLost)
	require.ErrorIs(t, job.Err(), context.Canceled)
	for _, ctx := range []context.Context{job, derived} {
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), ErrClaimLost)
		require.ErrorIs(t, context.Cause(ctx), etcd.ErrLeaseLost)
	}
}
