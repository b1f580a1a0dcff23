package integration

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// lastSeen returns the error that an observation ends with.
func lastSeen(seen iter.Seq2[etcd.LeaderInfo, error]) (last error) {
	for _, err := range seen {
		last = err
	}
	return last
}

// observing delivers the values of the leaders that an election is seen to have, and at last why
// that ends.
func observing(ctx context.Context, e *etcd.Election) (<-chan string, <-chan error) {
	values, end := make(chan string, 100), make(chan error, 1)
	go func() {
		for leader, err := range e.Observe(ctx) {
			if leader.Token == 0 {
				end <- err
				return
			}
			values <- string(leader.Value)
		}
	}()
	return values, end
}

func TestObserveTellsThePresentLeaderAndEachNext(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"election", within(t, patience)
		e := newElection(t, c, name)
		watching, cancel := context.WithCancel(ctx)
		early, ended := observing(watching, e)
		require.NoError(t, e.Campaign(ctx, []byte("a")))
		require.Equal(t, "a", next(t, early))
		late, _ := observing(watching, e)
		require.Equal(t, "a", next(t, late), "the present one")
		tells := func(want string) {
			for _, seen := range []<-chan string{early, late} {
				require.Equal(t, want, next(t, seen))
			}
		}
		for range 2 { // the same value too
			require.NoError(t, e.Proclaim(ctx, []byte("b")))
			tells("b")
		}
		require.NoError(t, e.Resign(ctx))
		require.NoError(t, e.Campaign(ctx, []byte("c")))
		tells("c")
		cancel()
		require.ErrorIs(t, next(t, ended), context.Canceled)
		require.NoError(t, e.Resign(ctx))
	})
}

func TestObserveNamesThePresentLeaderAfterAnOutage(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	c, proxy := cutOff(t, srv)
	ctx, name := within(t, patience), prefix(t)+"election"
	leader, e := newElection(t, direct, name), brokenElection(t, c, proxy, name)
	require.NoError(t, leader.Campaign(ctx, []byte("first")))
	seen, _ := observing(ctx, e)
	require.Equal(t, "first", next(t, seen))
	for _, compacted := range []bool{false, true} {
		proxy.Refuse()
		proxy.Cut()
		require.NoError(t, leader.Proclaim(ctx, []byte("meanwhile")))
		require.NoError(t, leader.Resign(ctx))
		require.NoError(t, leader.Campaign(ctx, []byte("former")))
		require.NoError(t, leader.Resign(ctx))
		require.NoError(t, leader.Campaign(ctx, []byte("present")))
		if compacted {
			compact(t, direct)
		}
		proxy.Heal()
		require.Equal(t, "present", next(t, seen), "compacted: %t", compacted)
		require.NoError(t, leader.Proclaim(ctx, []byte("next")))
		require.Equal(t, "next", next(t, seen))
	}
}

func TestObserveAndCampaignOutliveARestart(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	ctx, name := within(t, busyTimeout), prefix(t)+"election"
	leader, heir := newElection(t, c, name, etcd.WithLockTTL(time.Minute)), newElection(t, c, name, etcd.WithLockTTL(time.Minute))
	require.NoError(t, leader.Campaign(ctx, []byte("first")))
	seen, _ := observing(ctx, heir)
	require.Equal(t, "first", next(t, seen))
	outcome := campaigning(t, ctx, c, heir, "heir", 2)
	srv.Stop()
	require.NoError(t, srv.Restart())
	require.NoError(t, leader.Proclaim(ctx, []byte("second")))
	require.Equal(t, "second", next(t, seen))
	require.NoError(t, leader.Context().Err())
	compact(t, c)
	require.NoError(t, leader.Resign(ctx))
	require.NoError(t, next(t, outcome))
	require.Equal(t, "heir", next(t, seen))
}

func TestObserveEndsWithItsElection(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	ctx, name := within(t, patience), prefix(t)+"election"
	e, other := newElection(t, c, name), newElection(t, c, name)
	require.NoError(t, e.Campaign(ctx, nil))
	closed, end := observing(ctx, other)
	next(t, closed)
	require.NoError(t, other.Close())
	err = next(t, end)
	require.ErrorIs(t, err, etcd.ErrClosed)
	require.ErrorContains(t, err, "election is closed")
	orphaned, end := observing(ctx, e)
	next(t, orphaned)
	require.NoError(t, c.Close())
	require.ErrorIs(t, next(t, end), etcd.ErrClosed)
}

func TestUndecodableLeaderIsNamedAnyway(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv).WithEncryption(testKey)), client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 1))))
	ctx, name := within(t, patience), prefix(t)+"election"
	e := newElection(t, c, name)
	require.NoError(t, e.Campaign(ctx, []byte("secret")))
	blind := newElection(t, other, name)
	info, err := blind.Leader(ctx)
	require.ErrorIs(t, err, etcd.ErrUnknownKey)
	var undecoded *etcd.DecodeError
	require.ErrorAs(t, err, &undecoded)
	require.Equal(t, e.Token(), info.Token)
	require.Nil(t, info.Value)
	raw, err := c.Raw().Get(ctx, leaderKey(name))
	require.NoError(t, err)
	require.NotContains(t, string(raw.Kvs[0].Value), "secret")
	require.NotErrorIs(t, second(newElection(t, c, name).Leader(ctx)), etcd.ErrDecrypt)
	var seen []int64
	for info, err := range blind.Observe(ctx) {
		require.ErrorIs(t, err, etcd.ErrUnknownKey)
		seen = append(seen, info.Token)
		if len(seen) == 2 {
			break
		}
		require.NoError(t, e.Proclaim(ctx, []byte("again")), "the loop goes on")
	}
	require.Equal(t, []int64{e.Token(), e.Token()}, seen)
}
