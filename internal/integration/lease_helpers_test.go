package integration

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// leases returns how many leases a server has.
func leases(t testing.TB, c *etcd.Client) int {
	t.Helper()
	resp, err := c.Raw().Leases(within(t, patience))
	require.NoError(t, err)
	return len(resp.Leases)
}

// renewalCounts counts what a server sees of renewals.
type renewalCounts struct{ streams, answers atomic.Int64 }

// renewalServer returns a server whose renewals are counted.
func renewalServer(t testing.TB) (*etcdtest.Server, *renewalCounts) {
	t.Helper()
	counts := &renewalCounts{}
	return server(t, etcdtest.WithGRPCServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if info.FullMethod == "/etcdserverpb.Lease/LeaseKeepAlive" {
				counts.streams.Add(1)
			}
			return handler(srv, &countedStream{ss, counts})
		}))), counts
}

type countedStream struct {
	grpc.ServerStream
	counts *renewalCounts
}

func (s *countedStream) SendMsg(m any) error {
	if _, ok := m.(*pb.LeaseKeepAliveResponse); ok {
		s.counts.answers.Add(1)
	}
	return s.ServerStream.SendMsg(m)
}

// lastRenewal reads renewals until the last one and returns its error.
func lastRenewal(t testing.TB, c <-chan etcd.KeepAliveResponse) error {
	t.Helper()
	for {
		if r := next(t, c); r.Err() != nil {
			closes(t, c)
			return r.Err()
		}
	}
}
