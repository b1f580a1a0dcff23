package integration

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// newElection returns an election for one test.
func newElection(t testing.TB, c *etcd.Client, name string, opts ...etcd.ElectionOption) *etcd.Election {
	t.Helper()
	e, err := c.NewElection(name, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// campaigning returns the outcome of a campaign that begins now, and waits until its key is there:
// then there are n candidates, the leader among them.
func campaigning(t testing.TB, ctx context.Context, c *etcd.Client, e *etcd.Election, value string, n int64) <-chan error {
	t.Helper()
	out := make(chan error, 1)
	go func() { out <- e.Campaign(ctx, []byte(value)) }()
	stand(t, c, e.Name(), n)
	return out
}

// standing returns how many candidates an election has, the leader among them.
func standing(t testing.TB, c *etcd.Client, name string) int64 {
	t.Helper()
	return queueAll(t, c, name+"\x00lead\x00candidate\x00")
}

// stand waits until an election has n candidates, the leader among them.
func stand(t testing.TB, c *etcd.Client, name string, n int64) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for got := standing(t, c, name); got != n; got = standing(t, c, name) {
		require.True(t, time.Now().Before(deadline), "%d candidates instead of %d", got, n)
	}
}

// leaderKey returns the key of the leader of an election.
func leaderKey(name string) string { return name + "\x00lead\x00leader" }

// leads holds that the leader of an election has that value.
func leads(t testing.TB, c *etcd.Client, name, value string) etcd.LeaderInfo {
	t.Helper()
	info, err := newElection(t, c, name).Leader(within(t, patience))
	require.NoError(t, err)
	require.Equal(t, value, string(info.Value))
	return info
}

// nothingLeft waits until no key of an election is there.
func nothingLeft(t testing.TB, c *etcd.Client, name string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		resp, err := c.Raw().Get(t.Context(), name+"\x00", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		require.NoError(t, err)
		if len(resp.Kvs) == 0 {
			return
		}
		require.True(t, time.Now().Before(deadline), "%v is left", resp.Kvs)
	}
}

// storedLeaderKey is leaderKey as the server knows it.
func storedLeaderKey(t testing.TB, c *etcd.Client, name string) string {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	require.NoError(t, err)
	for _, kv := range resp.Kvs {
		if strings.HasSuffix(string(kv.Key), leaderKey(name)) {
			return string(kv.Key)
		}
	}
	require.FailNow(t, "nobody leads")
	return ""
}

// leaseIn returns the lease that the key of a candidate names.
func leaseIn(t testing.TB, key string) etcd.LeaseID {
	t.Helper()
	id, err := strconv.ParseInt(key[len(key)-16:], 16, 64)
	require.NoError(t, err)
	return etcd.LeaseID(id)
}
