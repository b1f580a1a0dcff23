package integration

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

func TestLeaderHandsOverToANamedCandidate(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"election", within(t, patience)
		leader := newElection(t, c, name, etcd.WithCandidate("leader"))
		require.NoError(t, leader.Campaign(ctx, nil))
		first := newElection(t, c, name, etcd.WithPriority(1), etcd.WithCandidate("first"))
		before := campaigning(t, ctx, c, first, "first", 2)
		heir := newElection(t, c, name, etcd.WithCandidate("heir"))
		elected := campaigning(t, ctx, c, heir, "heir", 3)
		last := newElection(t, c, name, etcd.WithPriority(2))
		behind := campaigning(t, ctx, c, last, "last", 4)
		require.NoError(t, leader.Resign(ctx, etcd.WithSuccessor("heir")))
		require.NoError(t, next(t, elected))
		leads(t, c, name, "heir")
		require.Zero(t, queueAll(t, c, name+"\x00lead\x00next\x00"), "or nobody else could follow")
		require.Empty(t, before)
		require.Empty(t, behind)
		require.NoError(t, heir.Resign(ctx))
		require.NoError(t, next(t, behind), "the highest priority")
		require.NoError(t, last.Resign(ctx, etcd.WithSuccessor("first")))
		require.NoError(t, next(t, before))
		require.NoError(t, first.Resign(ctx))
		nothingLeft(t, c, name)
	})
}

func TestUnknownSuccessorChangesNothing(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	leader := newElection(t, c, name, etcd.WithCandidate("leader"))
	require.NoError(t, leader.Campaign(ctx, []byte("leader")))
	token, held := leader.Token(), leader.Context()
	for _, nobody := range []string{"nobody", "leader"} {
		require.ErrorIs(t, leader.Resign(ctx, etcd.WithSuccessor(nobody)), etcd.ErrNoCandidate)
		require.NoError(t, held.Err())
		require.Equal(t, token, leads(t, c, name, "leader").Token)
	}
	require.NoError(t, leader.Proclaim(ctx, []byte("still")))
	require.NoError(t, leader.Resign(ctx))
}

func TestDeadSuccessorHoldsUpNobody(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	for _, dies := range []string{"by its lease", "by its context"} {
		t.Run(dies, func(t *testing.T) {
			t.Parallel()
			c, proxy, inQueue := cutOffWaiter(t, srv)
			name, ctx := prefix(t)+"election", within(t, patience)
			leader, first := newElection(t, direct, name), newElection(t, direct, name)
			heir := brokenElection(t, c, proxy, name, etcd.WithCandidate("heir"), etcd.WithLockTTL(2*time.Second))
			require.NoError(t, leader.Campaign(ctx, nil))
			before := campaigning(t, ctx, direct, first, "first", 2)
			waiting, cancel := context.WithCancel(ctx)
			defer cancel()
			elected := campaigning(t, waiting, direct, heir, "heir", 3)
			next(t, inQueue)
			proxy.Blackhole() // so that it doesn't notice that it was named
			require.NoError(t, leader.Resign(ctx, etcd.WithSuccessor("heir")))
			require.ErrorIs(t, second(leader.Leader(ctx)), etcd.ErrVacant)
			require.Empty(t, before, "the successor may come")
			if dies == "by its context" {
				cancel()
			}
			require.Error(t, next(t, elected))
			require.NoError(t, next(t, before))
			require.NoError(t, first.Resign(ctx))
			proxy.Heal()
			nothingLeft(t, direct, name)
		})
	}
}

// The successor leaves after the leader has looked for it, and before it has named it.
func TestLeavingSuccessorLeavesTheElectionFree(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	var leave atomic.Pointer[func()]
	c := client(t, config(srv).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if f := leave.Swap(nil); req.Op == "resign" && f != nil {
			(*f)()
		}
	}}))
	name, ctx := prefix(t)+"election", within(t, patience)
	leader := newElection(t, c, name)
	heir := newElection(t, direct, name, etcd.WithCandidate("heir"))
	require.NoError(t, leader.Campaign(ctx, nil))
	waiting, cancel := context.WithCancel(ctx)
	elected := campaigning(t, waiting, direct, heir, "heir", 2)
	f := func() {
		cancel()
		assert.Error(t, <-elected)
	}
	leave.Store(&f)
	require.ErrorIs(t, leader.Resign(ctx, etcd.WithSuccessor("heir")), etcd.ErrNoCandidate)
	require.Zero(t, leader.Token())
	require.ErrorIs(t, second(leader.Leader(ctx)), etcd.ErrVacant)
	require.ErrorIs(t, leader.Resign(ctx), etcd.ErrNotHeld)
	nothingLeft(t, direct, name)
}

func TestResignStepsDownWithoutFindingItsSuccessor(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	leader := newElection(t, c, name)
	require.NoError(t, leader.Campaign(ctx, nil))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	held, guarded := leader.Context(), leader.Guard(ctx)
	require.ErrorIs(t, leader.Resign(ended, etcd.WithSuccessor("heir")), context.Canceled)
	require.Error(t, held.Err())
	require.ErrorIs(t, c.Put(guarded, name, nil), etcd.ErrLockLost)
	require.Zero(t, leader.Token())
	require.NoError(t, leader.Resign(ctx))
	require.NoError(t, newElection(t, c, name).Campaign(ctx, nil))
}

// A named successor that somebody deletes would keep its session's other candidates waiting.
func TestDeletedSuccessorHoldsUpNobody(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	c, proxy := cutOff(t, srv)
	name, ctx := prefix(t)+"election", within(t, patience)
	s, err := c.NewSession(ctx, etcd.WithSessionTTL(time.Hour))
	require.NoError(t, err)
	leader := newElection(t, direct, name)
	require.NoError(t, leader.Campaign(ctx, nil))
	heir := newElection(t, c, name, etcd.WithCandidate("heir"), etcd.WithSession(s))
	elected := campaigning(t, ctx, direct, heir, "heir", 2)
	proxy.Pause() // so that it doesn't notice that it was named
	require.NoError(t, leader.Resign(ctx, etcd.WithSuccessor("heir")))
	_, err = direct.DeletePrefix(ctx, name+"\x00lead\x00candidate\x00")
	require.NoError(t, err)
	proxy.Heal()
	require.ErrorIs(t, next(t, elected), etcd.ErrLockLost)
	require.NoError(t, newElection(t, direct, name).Campaign(ctx, nil))
}

func TestHandOverWakesOneOfManyCandidates(t *testing.T) {
	t.Parallel()
	const candidates, handOvers = 50, 10
	srv := server(t)
	direct := client(t, config(srv).WithTimeout(busyTimeout))
	var requests atomic.Int64
	c := client(t, config(srv).WithTimeout(busyTimeout).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op == "campaign" {
			requests.Add(1)
		}
	}}))
	name, ctx := prefix(t)+"election", within(t, 2*busyTimeout)
	s := newSession(t, c)
	leader := newElection(t, direct, name)
	require.NoError(t, leader.Campaign(ctx, nil))
	began := time.Now()
	elected := make(chan *etcd.Election, candidates)
	var waiting sync.WaitGroup
	for i := range candidates {
		e := newElection(t, c, name, etcd.WithSession(s))
		outcome := campaigning(t, ctx, direct, e, fmt.Sprint(i), int64(i)+2)
		waiting.Go(func() {
			if err := <-outcome; err == nil {
				elected <- e
			} else {
				assert.ErrorIs(t, err, etcd.ErrLockLost, "when the session is closed")
			}
		})
	}
	require.Eventually(t, func() bool { return requests.Load() >= candidates }, patience, time.Millisecond)
	before := requests.Load()
	for i := range handOvers {
		require.NoError(t, leader.Resign(ctx))
		leader = next(t, elected)
		leads(t, direct, name, fmt.Sprint(i))
	}
	// The elected one looks and takes the lead. Besides, each looks again every eight seconds at most.
	again := int64(time.Since(began)/(8*time.Second)) * candidates
	sent := requests.Load() - before
	t.Logf("%d requests for %d hand-overs among %d candidates", sent, handOvers, candidates)
	require.LessOrEqual(t, sent, 2*handOvers+again)
	require.GreaterOrEqual(t, sent, int64(2*handOvers))
	require.NoError(t, s.Close(ctx))
	waiting.Wait()
	require.Empty(t, elected)
}

// The request by which a candidate takes the lead arrives when another leader has come and gone,
// which has named a successor.
func TestLateTakeoverGoesBeforeNoSuccessor(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	direct := client(t, config(srv))
	c, proxy := cutOff(t, srv)
	name, ctx := prefix(t)+"election", within(t, patience)
	former, first := newElection(t, direct, name), newElection(t, direct, name)
	between := newElection(t, direct, name, etcd.WithPriority(1))
	heir := brokenElection(t, c, proxy, name, etcd.WithCandidate("heir"), etcd.WithLockTTL(2*time.Second))
	require.NoError(t, former.Campaign(ctx, nil))
	late := campaigning(t, ctx, direct, first, "first", 2)
	dies := campaigning(t, ctx, direct, heir, "heir", 3)
	takeover := holdRequest(o, func(txn *pb.TxnRequest) bool {
		return len(txn.Success) > 0 && string(txn.Success[0].GetRequestPut().GetKey()) == leaderKey(name)
	})
	require.NoError(t, former.Resign(ctx))
	next(t, takeover.held)
	require.NoError(t, between.Campaign(ctx, nil))
	proxy.Blackhole() // so that the heir doesn't notice that it was named
	require.NoError(t, between.Resign(ctx, etcd.WithSuccessor("heir")))
	close(takeover.release)
	require.NoError(t, next(t, late))
	require.Zero(t, queueAll(t, direct, name+"\x00lead\x00next\x00"), "the lease of the successor has ended")
	require.Error(t, next(t, dies))
	require.NoError(t, first.Resign(ctx))
	proxy.Heal()
}

// The request by which a named successor takes the lead arrives when somebody has deleted its name.
func TestLateTakeoverNeedsItsName(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	var requests atomic.Int64
	c := client(t, config(srv).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op == "campaign" {
			requests.Add(1)
		}
	}}))
	name, ctx := prefix(t)+"election", within(t, patience)
	lease, err := c.Grant(ctx, time.Hour)
	require.NoError(t, err)
	leader, heir := newElection(t, c, name), newElection(t, c, name, etcd.WithCandidate("heir"))
	require.NoError(t, leader.Campaign(ctx, nil))
	outcome := campaigning(t, ctx, c, heir, "heir", 2)
	takeover := holdRequest(o, func(txn *pb.TxnRequest) bool { return putsLike(txn, "\x00leader") })
	require.NoError(t, leader.Resign(ctx, etcd.WithSuccessor("heir")))
	next(t, takeover.held)
	// A candidate with the highest priority.
	ahead := name + "\x00lead\x00candidate\x000000000000000000\x00\x000000000000000001\x00" + lease.String()
	require.NoError(t, second(c.Raw().Put(ctx, ahead, "", clientv3.WithLease(clientv3.LeaseID(lease)))))
	require.NoError(t, second(c.DeletePrefix(ctx, successorsOf(name))))
	before := requests.Load()
	close(takeover.release)
	require.Eventually(t, func() bool { return requests.Load() >= before+2 || len(outcome) > 0 }, patience, time.Millisecond, "it looks again")
	require.Empty(t, outcome)
	require.ErrorIs(t, second(heir.Leader(ctx)), etcd.ErrVacant)
	require.NoError(t, second(c.Raw().Delete(ctx, ahead)))
	require.NoError(t, next(t, outcome))
	require.NoError(t, heir.Resign(ctx))
}

// What stands under the successor's name is no candidate: the lease that its key names is gone.
func TestSuccessorWithoutItsLeaseIsNoCandidate(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	gone, err := c.Grant(ctx, time.Hour)
	require.NoError(t, err)
	require.NoError(t, c.RevokeLease(ctx, gone))
	lease, err := c.Grant(ctx, time.Hour)
	require.NoError(t, err)
	fake := name + "\x00lead\x00candidate\x007fffffffffffffff\x00heir\x000000000000000001\x00" + gone.String()
	require.NoError(t, second(c.Raw().Put(ctx, fake, "", clientv3.WithLease(clientv3.LeaseID(lease)))))
	leader := newElection(t, c, name, etcd.WithPriority(1))
	require.NoError(t, leader.Campaign(ctx, nil))
	require.ErrorIs(t, leader.Resign(ctx, etcd.WithSuccessor("heir")), etcd.ErrNoCandidate)
	require.ErrorIs(t, leader.Resign(ctx), etcd.ErrNotHeld)
	require.NoError(t, second(c.Raw().Delete(ctx, fake)))
	nothingLeft(t, c, name)
}
