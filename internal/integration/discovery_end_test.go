package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
)

func TestEndOfTheClientEndsRegistrations(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	r := registered(t, c, "cart", "a")
	require.NoError(t, c.Close())
	<-r.Context().Done()
	require.Equal(t, etcd.ErrClosed, context.Cause(r.Context()))
	var last discovery.Status
	for last = range r.StatusChanges(within(t, patience)) {
	}
	require.Equal(t, etcd.ErrClosed, last.Cause)
	require.False(t, last.Registered)
}

// The client is closed first, so that the instance can't be removed.
func TestCloseSaysThatTheInstanceIsLeftBehind(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	ctx := within(t, patience)
	left := registered(t, c, "cart", "a")
	waiting, err := discovery.Register(ctx, c, "cart", discovery.Instance{ID: "a", Address: "x"}, discovery.WithBackground())
	require.NoError(t, err)
	isLost(t, waiting, discovery.ErrDuplicateInstance)
	require.NoError(t, c.Close())
	require.Equal(t, []string{"a"}, ids(t, other, "cart"))
	err = left.Close(ctx)
	require.ErrorIs(t, err, etcd.ErrClosed)
	require.ErrorContains(t, err, left.Key())
	require.NoError(t, left.Close(ctx), "after the first call")
	require.NoError(t, waiting.Close(ctx), "nothing of it is there")
}

func TestCloseAfterItsSessionRemovesTheInstance(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	ctx := within(t, patience)
	s, err := c.NewSession(ctx)
	require.NoError(t, err)
	r := registered(t, c, "cart", "a", discovery.WithSession(s))
	require.NoError(t, s.Close(ctx))
	<-r.Context().Done()
	require.NoError(t, r.Close(ctx))
	require.Empty(t, ids(t, other, "cart"))
}

// Somebody puts another value under the key while the removal is under way.
func TestCloseRemovesNoOtherValue(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	r := registered(t, c, "cart", "a")
	removal := holdRequest(o, func(txn *pb.TxnRequest) bool {
		return len(txn.Success) > 0 && string(txn.Success[0].GetRequestDeleteRange().GetKey()) == r.Key()
	})
	closed := make(chan error, 1)
	go func() { closed <- r.Close(within(t, patience)) }()
	next(t, removal.held)
	require.NoError(t, other.Put(t.Context(), r.Key(), []byte("another")))
	close(removal.release)
	require.NoError(t, next(t, closed))
	value, err := other.Get(t.Context(), r.Key())
	require.NoError(t, err)
	require.Equal(t, "another", string(value))
}
