package integration

import (
	"context"
	"errors"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

func TestElectionQueueListsWhoWouldLead(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"election", within(t, patience)
		leader := newElection(t, c, name, etcd.WithOwner("the leader ☃"), etcd.WithPriority(-3), etcd.WithLockTTL(time.Minute))
		claims, err := leader.Queue(ctx)
		require.NoError(t, err)
		require.Empty(t, claims)

		began := time.Now().Truncate(time.Millisecond)
		require.NoError(t, leader.Campaign(ctx, []byte("value")))
		s := newSession(t, c, etcd.WithSessionTTL(2*time.Minute))
		standing := []struct {
			name     string
			priority int
		}{{"a", 0}, {"b", math.MinInt}, {"c", 7}, {"", math.MaxInt}, {"e", 7}, {"f", -1}}
		var outcomes []<-chan error
		waiting, giveUp := context.WithCancel(ctx)
		for i, one := range standing {
			opts := []etcd.ElectionOption{etcd.WithPriority(one.priority), etcd.WithSession(s), etcd.WithOwner("text " + one.name)}
			if one.name != "" {
				opts = append(opts, etcd.WithCandidate(one.name))
			}
			outcomes = append(outcomes, campaigning(t, waiting, c, newElection(t, c, name, opts...), one.name, int64(i)+2))
		}
		claims, err = newElection(t, c, name).Queue(ctx)
		require.NoError(t, err)
		require.Len(t, claims, 7)
		host, err := os.Hostname()
		require.NoError(t, err)
		for i, n := range []int{-1, 3, 2, 4, 0, 5, 1} { // the leader, and then by priority and age
			claim, text := claims[i], "the leader ☃"
			if n >= 0 {
				require.Equal(t, standing[n].name, claim.Candidate)
				require.Equal(t, standing[n].priority, claim.Priority)
				require.Equal(t, s.Lease(), claim.Lease)
				require.Greater(t, claim.TTL, time.Minute)
				require.Greater(t, claim.Token, leader.Token())
				text = "text " + standing[n].name
			}
			require.Equal(t, etcd.Owner{Host: host, PID: os.Getpid(), Text: text}, claim.Owner)
			require.NoError(t, claim.Err)
			require.Equal(t, name, claim.Name)
			require.Contains(t, claim.Key, name+"\x00lead\x00candidate\x00")
			require.Equal(t, claim.Lease, leaseIn(t, claim.Key))
			require.Equal(t, i == 0, claim.Held)
			require.WithinRange(t, claim.Since, began, time.Now())
		}
		require.Equal(t, leader.Token(), claims[0].Token)
		require.Equal(t, -3, claims[0].Priority)
		require.Empty(t, claims[0].Candidate)
		require.Greater(t, claims[0].TTL, 30*time.Second)
		require.LessOrEqual(t, claims[0].TTL, time.Minute)

		keysAndValues, err := c.ListWithValues(ctx, name)
		require.NoError(t, err)
		require.Empty(t, keysAndValues, "the records are nobody's data")
		giveUp()
		for _, outcome := range outcomes {
			require.ErrorIs(t, next(t, outcome), context.Canceled)
		}
	})
}

// Who takes the lead keeps what it told, also after a value that it proclaimed.
func TestElectionQueueShowsTheOrderThatComesTrue(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	c, proxy := cutOff(t, srv)
	name, ctx := prefix(t)+"election", within(t, patience)
	leader := newElection(t, direct, name)
	require.NoError(t, leader.Campaign(ctx, nil))
	first := newElection(t, direct, name, etcd.WithPriority(1), etcd.WithOwner("first"))
	before := campaigning(t, ctx, direct, first, "", 2)
	heir := brokenElection(t, c, proxy, name, etcd.WithCandidate("heir"), etcd.WithOwner("heir"), etcd.WithLockTTL(time.Hour))
	elected := campaigning(t, ctx, direct, heir, "", 3)
	proxy.Pause() // so that it doesn't notice that it was named
	require.NoError(t, leader.Resign(ctx, etcd.WithSuccessor("heir")))
	for _, texts := range [][]string{{"heir", "first"}, {"heir", "first"}, {"first"}} {
		claims, err := leader.Queue(ctx)
		require.NoError(t, err)
		require.Len(t, claims, len(texts))
		for i, text := range texts {
			require.Equal(t, text, claims[i].Owner.Text)
			require.Equal(t, i == 0 && (heir.Token() == claims[i].Token || first.Token() == claims[i].Token), claims[i].Held)
		}
		switch {
		case heir.Token() != 0:
			require.NoError(t, heir.Proclaim(ctx, []byte("value")))
			require.NoError(t, heir.Resign(ctx))
			require.NoError(t, next(t, before))
		case first.Token() == 0:
			proxy.Heal()
			require.NoError(t, next(t, elected))
		}
	}
}

func TestElectionQueuePassesOverForeignKeys(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	e := newElection(t, c, name, etcd.WithLockTTL(time.Minute), etcd.WithOwner("me"))
	require.NoError(t, e.Campaign(ctx, nil))
	lease, err := c.Grant(ctx, time.Minute)
	require.NoError(t, err)
	candidates := name + "\x00lead\x00candidate\x00"
	for _, key := range []string{"junk", "\x00", "0\x00\x000\x00" + lease.String(), "zz\x00a\x0000\x00" + lease.String(), ""} {
		require.NoError(t, second(c.Raw().Put(ctx, candidates+key, "junk", clientv3.WithLease(clientv3.LeaseID(lease)))))
	}
	unbound := candidates + "7fffffffffffffff\x00\x000000000000000001\x00" + lease.String()
	require.NoError(t, second(c.Raw().Put(ctx, unbound, "without its lease")))
	claims, err := e.Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 2)
	require.Equal(t, "me", claims[0].Owner.Text)
	// One that is as it should be, by hand.
	require.Equal(t, candidates+"0\x00\x000\x00"+lease.String(), claims[1].Key)
	require.ErrorIs(t, claims[1].Err, etcd.ErrEncoding)
	require.NotContains(t, claims[1].Err.Error(), "junk")

	// Somebody deletes the candidate of the leader, who leads on.
	require.NoError(t, second(c.DeletePrefix(ctx, candidates)))
	claims, err = e.Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 1)
	info := leads(t, c, name, "")
	require.Equal(t, etcd.Claim{Name: name, Key: leaderKey(name), Held: true, Token: e.Token(), Lease: info.Lease, TTL: claims[0].TTL}, claims[0])
	require.Positive(t, claims[0].TTL)
	require.NoError(t, e.Resign(ctx))
	claims, err = e.Queue(ctx)
	require.NoError(t, err)
	require.Empty(t, claims)
}

func TestUndecodableRecordHidesNoCandidate(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx, name := within(t, patience), prefix(t)+"election"
	keyless, err := etcd.NewKeyring(nil, keyNumber(t, 1))
	require.NoError(t, err)
	plain := client(t, config(srv))
	waiting, giveUp := context.WithCancel(ctx)
	var outcomes []<-chan error
	for i, c := range []*etcd.Client{
		plain,
		client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 1)))),
		client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 2)))),
	} {
		e := newElection(t, c, name, etcd.WithOwner("owner"))
		if i == 0 {
			require.NoError(t, e.Campaign(ctx, nil))
			continue
		}
		outcomes = append(outcomes, campaigning(t, waiting, plain, e, "", int64(i)+1))
	}
	reader := client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 2))))
	claims, err := newElection(t, reader, name).Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 3)
	for i, want := range []error{etcd.ErrNotEncrypted, etcd.ErrUnknownKey, nil} {
		require.ErrorIs(t, claims[i].Err, want)
		var bad *etcd.DecodeError
		require.Equal(t, want != nil, errors.As(claims[i].Err, &bad))
		require.Equal(t, i == 0, claims[i].Held)
		require.Equal(t, i == 2, claims[i].Owner.Text == "owner")
		require.Positive(t, claims[i].TTL)
	}
	giveUp()
	for _, outcome := range outcomes {
		require.ErrorIs(t, next(t, outcome), context.Canceled)
	}

	// A client without a key can list.
	claims, err = newElection(t, plain, name).Queue(ctx)
	require.NoError(t, err)
	require.Equal(t, "owner", claims[0].Owner.Text)
	claims, err = newElection(t, client(t, config(srv).WithKeyring(keyless)), name).Queue(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, claims[0].Err, etcd.ErrNotEncrypted)
}

func TestElectionQueueThatFailsListsNothing(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c, ctx := client(t, config(srv)), within(t, patience)
	e := newElection(t, c, prefix(t)+"election")
	require.NoError(t, e.Campaign(ctx, nil))
	claims, err := e.Queue(f.follow(ctx, &script{answer: rpctypes.ErrGRPCPermissionDenied, refuse: true}))
	require.ErrorIs(t, err, etcd.ErrPermissionDenied)
	require.Empty(t, claims)
	var none context.Context
	require.ErrorIs(t, second(e.Queue(none)), etcd.ErrNilContext)
	closed, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	orphan, err := closed.NewElection("orphan")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	require.ErrorIs(t, second(orphan.Queue(ctx)), etcd.ErrClosed)
}
