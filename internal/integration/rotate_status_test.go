package integration

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd"
)

// All at one revision, over as many pages as it takes.
func TestEncryptionStatusIsOfOneRevision(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.seed(1000)
	var ranges atomic.Int64
	r.seen.around(func(req any) {
		if _, ok := req.(*pb.RangeRequest); ok && ranges.Add(1) == 2 {
			assert.NoError(t, r.now.BulkPut(t.Context(), map[string][]byte{"/s/00000": nil, "/s/00999": nil, "/s/new": nil}))
		}
	}, nil)
	status, err := r.now.EncryptionStatus(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, etcd.EncryptionStatus{Revision: 2, Total: 1000, ByKey: map[etcd.KeyID]int64{r.a.ID(): 1000}, BySuite: inDefaultSuite(1000)}, status)
	require.GreaterOrEqual(t, ranges.Load(), int64(2))
	ranges.Store(0)
	r.seen.around(func(req any) {
		if _, ok := req.(*pb.RangeRequest); ok && ranges.Add(1) == 2 {
			compact(t, r.old)
		}
	}, nil)
	_, err = r.now.EncryptionStatus(t.Context(), "")
	require.ErrorIs(t, err, etcd.ErrCompacted)
	r.seen.around(nil, nil)

	// It takes no key to look.
	status, err = client(t, config(r.srv)).EncryptionStatus(t.Context(), "/s/")
	require.NoError(t, err)
	require.Equal(t, map[etcd.KeyID]int64{r.a.ID(): 998, r.b.ID(): 3}, status.ByKey)
}
