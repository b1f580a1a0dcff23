package etcd_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd"
)

// lateHook panics at the request of that number.
type lateHook struct{ at, seen int }

func (h *lateHook) BeforeRequest(ctx context.Context, _ etcd.RequestInfo) context.Context {
	if h.seen++; h.seen == h.at {
		panic("late")
	}
	return ctx
}

func (h *lateHook) AfterRequest(context.Context, etcd.RequestInfo, etcd.ResultInfo) {}

// pageOf answers a read with its first key and the news that there are more, all
// at a revision; 0 stands for an answer without a header.
func pageOf(revision int64) func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return func(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
		resp := &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Key: r.Key, ModRevision: 1}}, More: true}
		if revision > 0 {
			resp.Header = &pb.ResponseHeader{Revision: revision}
		}
		return resp, nil
	}
}

func TestHookPanicReachesTheRangeOverAScan(t *testing.T) {
	t.Parallel()
	for at := 1; at <= 5; at++ { // of the first are the revision and the attempt at a stream
		c := stubClient(t, &stub{get: pageOf(7)}, func(cfg *etcd.Config) { cfg.WithHooks(&lateHook{at: at}) })
		require.PanicsWithValue(t, "late", func() {
			for _, err := range c.Scan(t.Context(), "/") {
				require.NoError(t, err)
			}
		}, fmt.Sprint(at))
	}
}

func TestPagesWithoutARevisionAreNoList(t *testing.T) {
	t.Parallel()
	c := stubClient(t, &stub{get: pageOf(0)})
	_, err := c.List(t.Context(), "/")
	require.ErrorIs(t, err, etcd.ErrServer)
	for _, err = range c.Scan(t.Context(), "/") {
		require.ErrorIs(t, err, etcd.ErrServer)
	}
	require.Error(t, err)
	_, err = c.BulkGet(t.Context(), []string{"/a"}, etcd.InChunks())
	require.ErrorIs(t, err, etcd.ErrServer)
}

func TestPageThatGoesBackwardEndsAList(t *testing.T) {
	t.Parallel()
	c := stubClient(t, &stub{get: func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
		return &pb.RangeResponse{
			Header: &pb.ResponseHeader{Revision: 7}, More: true,
			Kvs: []*mvccpb.KeyValue{{Key: []byte("/a")}},
		}, nil
	}})
	_, err := c.List(t.Context(), "/")
	require.ErrorIs(t, err, etcd.ErrServer)
}
