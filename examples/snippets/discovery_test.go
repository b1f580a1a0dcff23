package snippets

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
)

func serveInstance(ctx context.Context, client *etcd.Client, address string, stop <-chan struct{}, finish func()) error {
	r, err := discovery.Register(ctx, client, "cart", discovery.Instance{Address: address})
	if err != nil {
		return err
	}
	<-stop
	if err := r.Drain(ctx); err != nil { // no new calls
		return err
	}
	finish() // those under way
	return r.Close(ctx)
}

func TestInstanceDrainsBeforeItGoes(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	stop := make(chan struct{})
	close(stop)
	drained := false
	require.NoError(t, serveInstance(t.Context(), client, "10.0.0.7:8080", stop, func() {
		found, err := discovery.Instances(t.Context(), client, "cart")
		require.NoError(t, err)
		drained = found[0].Draining
	}))
	require.True(t, drained)
	_, err := discovery.Instances(t.Context(), client, "cart")
	require.ErrorIs(t, err, discovery.ErrUnknownService)
}
