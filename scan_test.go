package etcd_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// numbered is a server of 200 keys, of one digit more than they need.
type numbered struct {
	streamable atomic.Bool
	pages      atomic.Int64 // answered
	streams    atomic.Int64 // asked for
}

const numberedKeys = 200

func (n *numbered) answer(req *pb.RangeRequest) *pb.RangeResponse {
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 7}}
	for i := range numberedKeys {
		key := fmt.Sprintf("k%04d", i)
		if key < string(req.Key) {
			continue
		}
		if resp.More = req.Limit > 0 && int64(len(resp.Kvs)) == req.Limit; resp.More {
			break
		}
		resp.Kvs = append(resp.Kvs, &mvccpb.KeyValue{Key: []byte(key)})
	}
	return resp
}

func (n *numbered) stub() *stub {
	return &stub{
		get: func(_ context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
			n.pages.Add(1)
			return n.answer(req), nil
		},
		stream: func(req *pb.RangeRequest, to pb.KV_RangeStreamServer) error {
			n.streams.Add(1)
			if !n.streamable.Load() {
				return status.Error(codes.Unimplemented, "unknown method RangeStream")
			}
			return to.Send(&pb.RangeStreamResponse{RangeResponse: n.answer(req)})
		},
	}
}

func countScanned(t *testing.T, c *etcd.Client) int {
	t.Helper()
	n := 0
	for kv, err := range c.Scan(t.Context(), "k") {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("k%04d", n), kv.Key)
		n++
	}
	return n
}

// A server that was upgraded is noticed after five minutes, and not asked all the
// time before.
func TestServerWithoutRangeStreamsIsAskedAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &numbered{}
		c := stubClient(t, server.stub())
		require.Equal(t, numberedKeys, countScanned(t, c))
		require.Equal(t, int64(1), server.streams.Load())
		require.Equal(t, int64(3), server.pages.Load(), "the revision and two pages")

		<-time.After(5*time.Minute - time.Second)
		require.Equal(t, numberedKeys, countScanned(t, c))
		require.Equal(t, int64(1), server.streams.Load())

		<-time.After(time.Second)
		require.Equal(t, numberedKeys, countScanned(t, c))
		require.Equal(t, int64(2), server.streams.Load(), "asked again, without success")
		require.Equal(t, numberedKeys, countScanned(t, c))
		require.Equal(t, int64(2), server.streams.Load())

		server.streamable.Store(true)
		<-time.After(5 * time.Minute)
		pages := server.pages.Load()
		require.Equal(t, numberedKeys, countScanned(t, c))
		require.Equal(t, int64(3), server.streams.Load())
		require.Equal(t, pages+1, server.pages.Load(), "the revision alone")
	})
}

// The time without a key counts, over all the streams that are tried meanwhile.
func TestEmptyStreamsEndWithinOneRequestsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &numbered{}
		s := server.stub()
		s.stream = func(req *pb.RangeRequest, to pb.KV_RangeStreamServer) error {
			switch server.streams.Add(1) {
			case 1:
				req.Limit = 64
				if err := to.Send(&pb.RangeStreamResponse{RangeResponse: server.answer(req)}); err != nil {
					return err
				}
				fallthrough
			case 2, 4:
				return status.Error(codes.Unavailable, "broken")
			default:
				<-to.Context().Done()
				return to.Context().Err()
			}
		}
		c := stubClient(t, s, func(cfg *etcd.Config) { cfg.WithTimeout(10 * time.Second) })
		began := time.Now()
		n := 0
		var last error
		for _, err := range c.Scan(t.Context(), "k") {
			if last = err; err == nil {
				<-time.After(time.Minute) // a slow consumer's time does not count
				began = time.Now()
				n++
			}
		}
		require.Equal(t, 64, n)
		require.ErrorIs(t, last, etcd.ErrTimeout)
		require.Equal(t, 10*time.Second, time.Since(began))
	})
}

// A context with a deadline has the last word, as for any other request.
func TestScanHasTheTimeOfItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &numbered{}
		s := server.stub()
		s.stream = func(_ *pb.RangeRequest, to pb.KV_RangeStreamServer) error {
			<-to.Context().Done()
			return to.Context().Err()
		}
		c := stubClient(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		var last error
		for _, last = range c.Scan(ctx, "k") {
		}
		require.ErrorIs(t, last, context.DeadlineExceeded)
		require.ErrorIs(t, last, etcd.ErrTimeout)
		require.Equal(t, time.Minute, time.Since(began))
	})
}

// A hook sees each page and each chunk as a request, and no failure where a server
// has no streams.
func TestHooksSeeTheRequestsOfAScan(t *testing.T) {
	for streamable, requests := range map[bool]int{
		true:  3, // the revision, a chunk, the end of the stream
		false: 4, // the revision, the stream in vain, two pages
	} {
		server := &numbered{}
		server.streamable.Store(streamable)
		hook := &scanHook{}
		c := stubClient(t, server.stub(), func(cfg *etcd.Config) { cfg.WithHooks(hook) })
		require.Equal(t, numberedKeys, countScanned(t, c))
		require.Len(t, hook.results, requests)
		for _, res := range hook.results {
			require.NoError(t, res.Err)
			require.Equal(t, 1, res.Attempts)
		}
		for _, req := range hook.requests {
			require.Equal(t, etcd.RequestInfo{Op: "scan", Key: "k"}, req)
		}
	}
}

type scanHook struct {
	requests []etcd.RequestInfo
	results  []etcd.ResultInfo
}

func (h *scanHook) BeforeRequest(ctx context.Context, req etcd.RequestInfo) context.Context {
	h.requests = append(h.requests, req)
	return ctx
}

func (h *scanHook) AfterRequest(_ context.Context, _ etcd.RequestInfo, res etcd.ResultInfo) {
	h.results = append(h.results, res)
}

// With serializable reads a member may be asked that has not seen the revision
// which another one told.
func TestScanWaitsForAMemberThatLagsBehind(t *testing.T) {
	for _, streamable := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			server := &numbered{}
			server.streamable.Store(streamable)
			s := server.stub()
			var refused int
			lag := func(req *pb.RangeRequest) error {
				if refused == 3 || req.Revision == 0 {
					return nil
				}
				refused++
				return rpctypes.ErrGRPCFutureRev
			}
			get, stream := s.get, s.stream
			s.get = func(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
				if err := lag(req); err != nil {
					return nil, err
				}
				return get(ctx, req)
			}
			s.stream = func(req *pb.RangeRequest, to pb.KV_RangeStreamServer) error {
				if err := lag(req); err != nil {
					return err
				}
				return stream(req, to)
			}
			c := stubClient(t, s)
			require.Equal(t, numberedKeys, countScanned(t, c))
			require.Equal(t, 3, refused)

			refused = 0
			for _, err := range c.Scan(t.Context(), "k", etcd.WithRevision(9)) {
				require.ErrorIs(t, err, etcd.ErrFutureRevision, "a revision of the caller's own may never come")
			}
			require.Equal(t, 1, refused)
		})
	}
}

// The page that is read ahead doesn't keep a consumer who wants no more.
func TestScanCanBeLeftDuringAPageRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &numbered{}
		s := server.stub()
		get, underWay := s.get, make(chan struct{})
		s.get = func(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
			if server.pages.Load() == 2 { // after the revision and a page
				close(underWay)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return get(ctx, req)
		}
		c := stubClient(t, s)
		began := time.Now()
		for _, err := range c.Scan(t.Context(), "k") {
			require.NoError(t, err)
			<-underWay
			break
		}
		require.Zero(t, time.Since(began))
	})
}
