package etcd_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// serveStub has s serve a port, and returns it.
func serveStub(t testing.TB, s *stub) string {
	t.Helper()
	srv := grpc.NewServer()
	pb.RegisterKVServer(srv, s)
	return serve(t, srv)
}

// refusing answers every request by err, and counts them.
func refusing(err error, asked *atomic.Int64) *stub {
	return &stub{
		get: func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
			asked.Add(1)
			return nil, err
		},
		put: func(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
			asked.Add(1)
			return nil, err
		},
	}
}

func TestEndpointThatCannotServeIsAvoided(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{
		"learner":   rpctypes.ErrGRPCNotSupportedForLearner,
		"no leader": rpctypes.ErrGRPCNoLeader,
		"proxy":     status.Error(codes.Unavailable, "unexpected HTTP status code received from server: 503 (Service Unavailable)"),
		"mesh":      status.Error(codes.PermissionDenied, "RBAC: access denied"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked, served atomic.Int64
			voter := serveStub(t, &stub{get: func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
				served.Add(1)
				return &pb.RangeResponse{}, nil
			}})
			c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(voter, serveStub(t, refusing(answer, &asked))))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, c.Close()) })
			// Until both are connected to, and the refusing one has been met.
			for asked.Load() == 0 {
				_, err := c.Exists(t.Context(), "key")
				require.NoError(t, err)
			}
			began := time.Now()
			met := asked.Load()
			for range 100 {
				_, err := c.Exists(t.Context(), "key")
				require.NoError(t, err)
			}
			// Once more for each time that it was tried again.
			assert.LessOrEqual(t, asked.Load()-met, 1+int64(time.Since(began)/(5*time.Second)))
		})
	}
}

// A learner certainly applies nothing, so that a write goes elsewhere too, and
// without waiting.
func TestWriteLeavesALearnerAtOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	endpoints := []string{serveStub(t, &stub{}), serveStub(t, refusing(rpctypes.ErrGRPCNotSupportedForLearner, &asked))}
	for range 20 {
		c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoints...).WithLazyConnect())
		require.NoError(t, err)
		for range 4 {
			require.NoError(t, c.Put(t.Context(), "key", nil))
		}
		require.NoError(t, c.Close())
	}
	require.Positive(t, asked.Load())
}

// A mesh's refusal is no proof: the write is not sent again.
func TestWriteIsNotRepeatedAfterAForeignRefusal(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	refusal := status.Error(codes.PermissionDenied, "RBAC: access denied")
	c, err := etcd.NewClient(etcd.DefaultConfig().WithLazyConnect().
		WithEndpoints(serveStub(t, refusing(refusal, &asked)), serveStub(t, refusing(refusal, &asked))))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	err = c.Put(t.Context(), "key", nil)
	require.ErrorIs(t, err, etcd.ErrPermissionDenied)
	assert.True(t, etcd.MaybeApplied(err))
	assert.Equal(t, int64(1), asked.Load())
}

// What is avoided is used nevertheless where there is nothing else.
func TestAvoidedEndpointsServeWhenThereIsNoOther(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	s := &stub{get: func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
		if down.Load() {
			return nil, rpctypes.ErrGRPCNotSupportedForLearner
		}
		return &pb.RangeResponse{}, nil
	}}
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(serveStub(t, s), serveStub(t, s)).WithLazyConnect())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	began := time.Now()
	_, err = c.Exists(t.Context(), "key")
	require.ErrorIs(t, err, etcd.ErrFailedPrecondition)
	down.Store(false)
	_, err = c.Exists(t.Context(), "key")
	require.NoError(t, err)
	assert.Less(t, time.Since(began), 4*time.Second, "it waited until none was avoided")
}
