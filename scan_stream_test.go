package etcd_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd"
)

// cutting is a server of 40 keys whose streams have chunks of 3, and end, in good
// order, after some of them.
type cutting struct {
	chunks  atomic.Int64 // how many a stream has
	streams atomic.Int64
}

const cutKeys = 40

// from returns up to n keys of a range, and whether there are more.
func (s *cutting) from(key []byte, n int) (kvs []*mvccpb.KeyValue, more bool) {
	for i := range cutKeys {
		name := fmt.Appendf(nil, "/%02d", i)
		switch {
		case bytes.Compare(name, key) < 0:
		case len(kvs) == n:
			return kvs, true
		default:
			kvs = append(kvs, &mvccpb.KeyValue{Key: name, ModRevision: 1})
		}
	}
	return kvs, false
}

func (s *cutting) client(t *testing.T) *etcd.Client {
	header := &pb.ResponseHeader{Revision: 9}
	return stubClient(t, &stub{
		get: func(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
			resp := &pb.RangeResponse{Header: header, Count: cutKeys}
			if !r.CountOnly {
				resp.Kvs, resp.More = s.from(r.Key, 1) // the others have to come by streams
			}
			return resp, nil
		},
		stream: func(r *pb.RangeRequest, to pb.KV_RangeStreamServer) error {
			s.streams.Add(1)
			key := r.Key
			for range s.chunks.Load() {
				kvs, more := s.from(key, 3)
				chunk := &pb.RangeResponse{Kvs: kvs}
				if !more {
					chunk.Header = header
				}
				if err := to.Send(&pb.RangeStreamResponse{RangeResponse: chunk}); err != nil || !more {
					return err
				}
				key = append(bytes.Clone(kvs[len(kvs)-1].Key), 0)
			}
			return nil // as if that had been all
		},
	}, func(cfg *etcd.Config) { cfg.WithTimeout(time.Minute) })
}

func TestStreamThatEndsEarlyIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	for _, chunks := range []int64{1, 5, 100} {
		s := &cutting{}
		s.chunks.Store(chunks)
		c := s.client(t)
		scanned := 0
		for kv, err := range c.Scan(t.Context(), "/") {
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("/%02d", scanned), kv.Key)
			scanned++
		}
		require.Equal(t, cutKeys, scanned)
		require.Equal(t, max(1, (cutKeys+3*chunks-1)/(3*chunks)), s.streams.Load())

		listed, err := c.List(t.Context(), "/")
		require.NoError(t, err)
		require.Len(t, listed, cutKeys)

		var file bytes.Buffer
		report, err := c.Export(t.Context(), &file, "/")
		require.NoError(t, err)
		require.EqualValues(t, cutKeys, report.Keys)

		require.NoError(t, c.Transact(t.Context(), func(tx *etcd.Tx) error {
			kvs, err := tx.GetPrefix("/")
			require.Len(t, kvs, cutKeys)
			return err
		}))
	}
}

func TestStreamWithoutAnythingIsNotAnEmptyRange(t *testing.T) {
	t.Parallel()
	s := &cutting{} // its streams end at once
	c := s.client(t)
	scanned := 0
	for _, err := range c.Scan(t.Context(), "/") {
		require.NoError(t, err)
		scanned++
	}
	require.Equal(t, cutKeys, scanned, "in pages at last")
	listed, err := c.List(t.Context(), "/")
	require.NoError(t, err)
	require.Len(t, listed, cutKeys)
	require.Greater(t, s.streams.Load(), int64(2), "it was tried again")
}

func TestStreamThatBeginsAnewIsAnError(t *testing.T) {
	t.Parallel()
	c := stubClient(t, &stub{
		get: func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
			return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 9}, Count: 3}, nil
		},
		stream: func(_ *pb.RangeRequest, to pb.KV_RangeStreamServer) error {
			return to.Send(&pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Key: []byte("/first")}}}})
		},
	})
	var errs []error
	for _, err := range c.Scan(t.Context(), "/") {
		errs = append(errs, err)
	}
	require.Len(t, errs, 2)
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[1], etcd.ErrServer)
}
