package integration

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// The request that takes the lead is applied late, just before the candidate gives up its place in
// the other queue, since it has seen another before it.
func TestLateTakeoverBesideClientv3LeadsWithBothKeys(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	c := client(t, config(srv))
	ctx, name := within(t, patience), prefix(t)+"election"
	kv := pb.NewKVClient(c.Raw().ActiveConnection())
	taken, inTime := make(chan *pb.TxnRequest, 1000), make(chan bool, 1)
	f := interference(func(txn *pb.TxnRequest) (bool, error) {
		switch {
		case putsLike(txn, "\x00leader"):
			select {
			case taken <- txn:
			default: // there are enough
			}
			return true, status.Error(codes.Unavailable, "lost")
		case len(txn.Success) > 0 && stepsBack(txn, name, ""):
			now.Store(nil)
			resp, err := kv.Txn(ctx, <-taken)
			assert.NoError(t, err)
			inTime <- resp.GetSucceeded()
		}
		return false, nil
	})
	now.Store(&f)
	low := newElection(t, c, name, etcd.WithBothKeys())
	outcome := make(chan error, 1)
	go func() { outcome <- low.Campaign(t.Context(), []byte("low")) }() // without a deadline, so that a request has one
	// By now it has its place in the other queue.
	taken <- next(t, taken)
	waiting, leave := context.WithCancel(ctx)
	defer leave()
	high := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithPriority(1))
	ahead := campaigning(t, waiting, c, high, "high", 2)
	theirs, s := make(chan error, 1), theirSession(t, c.Raw())
	their := concurrency.NewElection(s, name)
	go func() { theirs <- their.Campaign(ctx, "theirs") }()

	require.True(t, next(t, inTime))
	require.NoError(t, next(t, outcome))
	require.Equal(t, "low", theirLeader(t, c.Raw(), name))
	require.Equal(t, low.Token(), leads(t, c, name, "low").Token)
	leave()
	require.ErrorIs(t, next(t, ahead), context.Canceled)
	require.NoError(t, c.Put(low.Guard(ctx), name+"-data", nil))
	require.NoError(t, low.Proclaim(ctx, []byte("still")))
	require.Equal(t, "still", theirLeader(t, c.Raw(), name))
	require.Empty(t, theirs)
	require.NoError(t, low.Resign(ctx))
	require.NoError(t, next(t, theirs))
	require.NoError(t, their.Resign(ctx))
	nothingBeside(t, c, name)
}

// The answer to the request that takes the lead is lost, and so is the key in the other queue before
// the candidate looks again.
func TestLeadFoundWithoutTheOtherKeyIsLost(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"deleted", "replaced"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			srv, now := interferedServer(t)
			c := client(t, config(srv))
			ctx, name := within(t, patience), prefix(t)+"election"
			var asked atomic.Int64
			f := interference(func(txn *pb.TxnRequest) (bool, error) {
				if !putsLike(txn, "\x00leader") {
					return false, nil
				}
				n := asked.Add(1)
				if n == 2 {
					resp, err := c.Raw().Delete(ctx, name+"/", clientv3.WithPrefix(), clientv3.WithPrevKV())
					assert.NoError(t, err)
					for _, kv := range resp.PrevKvs {
						if what == "replaced" {
							assert.NoError(t, second(c.Raw().Put(ctx, string(kv.Key), "", clientv3.WithLease(clientv3.LeaseID(kv.Lease)))))
						}
					}
				}
				return n > 1, status.Error(codes.Unavailable, "lost")
			})
			now.Store(&f)
			e := newElection(t, c, name, etcd.WithBothKeys())
			require.ErrorIs(t, e.Campaign(t.Context(), nil), etcd.ErrLockLost) // without a deadline, so that a request has one
			require.Greater(t, asked.Load(), int64(1))
			require.Zero(t, e.Token())
			now.Store(nil)
			nothingBeside(t, c, name)
			require.NoError(t, e.Campaign(ctx, nil))
		})
	}
}
