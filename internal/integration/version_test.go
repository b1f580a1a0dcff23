package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// What docs/compatibility.md says of the versions.
func TestServerHasTheFeaturesOfItsVersion(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	lease, err := c.Grant(ctx, time.Minute)
	require.NoError(t, err)
	require.NoError(t, c.Put(ctx, p+"key", []byte("value"), etcd.WithLease(lease)))

	stream, err := pb.NewKVClient(c.Raw().ActiveConnection()).RangeStream(ctx, &pb.RangeRequest{Key: []byte(p + "key")})
	require.NoError(t, err)
	_, err = stream.Recv()
	if hasRangeStream(t, srv) {
		require.NoError(t, err)
	} else {
		require.Equal(t, codes.Unimplemented, status.Code(err), "%v", err)
	}

	kvs := scan(t, c.Scan(ctx, p, etcd.WithKeysOnly()))
	require.Len(t, kvs, 1)
	require.Nil(t, kvs[0].Value)
	if since(t, srv, 3, 7) { // keys are read from the index, which knows no lease
		require.Zero(t, kvs[0].Lease)
	} else {
		require.Equal(t, lease, kvs[0].Lease)
	}

	require.NoError(t, c.BulkPut(ctx, manyValues(64*64)), "nested once")
	many := scan(t, c.Scan(ctx, "many/"))
	require.Len(t, many, 64*64)
	for _, kv := range many {
		require.Equal(t, many[0].ModRevision, kv.ModRevision)
	}
}
