package integration

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// successorsOf is where the keys of named successors of an election lie.
func successorsOf(name string) string { return name + "\x00lead\x00next\x00" }

func TestForeignKeyInAnElectionIsTold(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
		ctx, work := within(t, patience), func(context.Context) error { return nil }
		lease, err := c.Grant(ctx, time.Minute)
		require.NoError(t, err)
		leader, e := newElection(t, c, name), newElection(t, c, name, opts...)
		for _, key := range []string{
			leaderKey(name), successorsOf(name) + "junk", successorsOf(name), successorsOf(name) + "0000000000000001\x00" + lease.String(),
		} {
			require.NoError(t, second(c.Raw().Put(ctx, key, "foreign")))
			err := e.Campaign(ctx, nil)
			require.ErrorIs(t, err, etcd.ErrForeignKey)
			require.ErrorContains(t, err, strconv.Quote(key))
			require.NotContains(t, err.Error(), "lock")
			require.False(t, etcd.MaybeApplied(err))
			require.Zero(t, standing(t, c, name), "nothing is left behind")
			require.ErrorIs(t, c.Lead(ctx, name, nil, work, opts...), etcd.ErrForeignKey)
			require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
			claims, err := e.Queue(ctx)
			require.NoError(t, err)
			require.Empty(t, claims)
			require.NoError(t, second(c.Raw().Delete(ctx, key)))

			// One that comes while others wait.
			require.NoError(t, leader.Campaign(ctx, nil))
			outcome := campaigning(t, ctx, c, e, "", 2)
			if key != leaderKey(name) {
				require.NoError(t, second(c.Raw().Put(ctx, key, "foreign")))
				require.NoError(t, leader.Resign(ctx))
				require.ErrorIs(t, next(t, outcome), etcd.ErrForeignKey)
				require.NoError(t, second(c.Raw().Delete(ctx, key)))
			} else {
				require.NoError(t, leader.Resign(ctx))
				require.NoError(t, next(t, outcome))
				require.NoError(t, e.Resign(ctx))
			}
			nothingLeft(t, c, name)
		}
	})
}

func TestKeyWithoutALeaseNeverLeads(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"election", within(t, patience)
		e := newElection(t, c, name)
		require.NoError(t, c.Put(ctx, leaderKey(name), []byte("fake")))
		early, _ := observing(ctx, e)
		require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
		require.NoError(t, second(c.Delete(ctx, leaderKey(name))))
		require.NoError(t, e.Campaign(ctx, []byte("first")))
		late, _ := observing(ctx, e)
		require.Equal(t, "first", next(t, early))
		require.Equal(t, "first", next(t, late))

		require.NoError(t, c.Put(ctx, leaderKey(name), []byte("fake")))
		require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
		claims, err := e.Queue(ctx)
		require.NoError(t, err)
		for _, claim := range claims { // its candidate may still be there
			require.False(t, claim.Held)
		}
		require.NoError(t, second(c.Delete(ctx, leaderKey(name))))
		closes(t, e.Context().Done())
		require.ErrorIs(t, e.Resign(ctx), etcd.ErrLockLost)
		require.NoError(t, e.Campaign(ctx, []byte("second")))
		require.Equal(t, "second", next(t, early))
		require.Equal(t, "second", next(t, late))
		require.NoError(t, e.Resign(ctx))
	})
}

// A successor's key goes with its lease. Until then it names nobody, and neither does a candidate
// without a lease stand.
func TestKeysOfNobodyHoldUpNobody(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
		ctx := within(t, patience)
		lease, err := c.Grant(ctx, time.Minute)
		require.NoError(t, err)
		bound, suffix := clientv3.WithLease(clientv3.LeaseID(lease)), "0000000000000001\x00"+lease.String()
		require.NoError(t, second(c.Raw().Put(ctx, successorsOf(name)+suffix, "", bound)))
		require.NoError(t, second(c.Raw().Put(ctx, successorsOf(name)+"junk", "", bound)))
		require.NoError(t, second(c.Raw().Put(ctx, name+"\x00lead\x00candidate\x000000000000000000\x00\x00"+suffix, "")))
		e, heir := newElection(t, c, name, opts...), newElection(t, c, name, etcd.WithCandidate("heir"))
		require.NoError(t, e.Campaign(ctx, nil))
		first := newElection(t, c, name, opts...)
		before := campaigning(t, ctx, c, first, "", 3)
		elected := campaigning(t, ctx, c, heir, "", 4)
		require.NoError(t, e.Resign(ctx, etcd.WithSuccessor("heir")))
		require.NoError(t, next(t, elected))
		require.Empty(t, before)
		require.NoError(t, heir.Resign(ctx))
		require.NoError(t, next(t, before))
		require.NoError(t, first.Resign(ctx))
	})
}

// A successor is named after a candidate has seen that it is its turn, and before it takes the lead.
func TestSuccessorNamedMeanwhileGoesFirst(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	for kind, opts := range map[string][]etcd.ElectionOption{"own": nil, "both": {etcd.WithBothKeys()}} {
		name, ctx := prefix(t)+kind, within(t, patience)
		lease, err := direct.Grant(ctx, time.Minute)
		require.NoError(t, err)
		bound, suffix := clientv3.WithLease(clientv3.LeaseID(lease)), "0000000000000001\x00"+lease.String()
		require.NoError(t, second(direct.Raw().Put(ctx, name+"\x00lead\x00candidate\x00ffffffffffffffff\x00\x00"+suffix, "", bound)))
		var requests atomic.Int64
		named := make(chan struct{})
		c := client(t, config(srv).WithHooks(hook{before: func(ctx context.Context, req etcd.RequestInfo) context.Context {
			if req.Op == "campaign" && requests.Add(1) == 2 {
				assert.NoError(t, second(direct.Raw().Put(ctx, successorsOf(name)+suffix, "", bound)))
				close(named)
			}
			return ctx
		}}))
		e := newElection(t, c, name, opts...)
		outcome := campaigning(t, ctx, direct, e, "", 2)
		closes(t, named)
		// What it sent then, with both keys the take-over too, and another look.
		require.Eventually(t, func() bool { return requests.Load() >= int64(3+len(opts)) }, patience, time.Millisecond, "it looks again")
		require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant, kind)
		require.Empty(t, outcome)
		require.NoError(t, second(direct.Raw().Delete(ctx, successorsOf(name)+suffix)))
		require.NoError(t, next(t, outcome))
	}
}
