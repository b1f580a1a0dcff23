package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// etcd's grpc-proxy answers for a lease on one stream as often as it renews it itself,
// which is every twenty minutes here.
func TestSingleRenewalsAreAnsweredBehindGRPCProxy(t *testing.T) {
	t.Parallel()
	c := client(t, etcd.DefaultConfig().WithEndpoints(grpcProxy(t, server(t))).WithTimeout(busyTimeout))
	id, err := c.Grant(t.Context(), time.Hour)
	require.NoError(t, err)
	for range 3 {
		left, err := c.KeepAliveOnce(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, time.Hour, left)
	}
}
