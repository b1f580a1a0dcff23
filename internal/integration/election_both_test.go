package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/blueprint-go/etcd"
)

// leading takes the lead of one of clientv3's elections, and returns what gives it back.
func leading(t *testing.T, c *clientv3.Client, name, value string) (resign func()) {
	t.Helper()
	s, err := concurrency.NewSession(c, concurrency.WithTTL(60))
	require.NoError(t, err)
	e := concurrency.NewElection(s, name)
	require.NoError(t, e.Campaign(t.Context(), value))
	return func() {
		require.NoError(t, e.Resign(t.Context()))
		require.NoError(t, s.Close())
	}
}

// theirLeader returns the value that clientv3's elections see their leader have.
func theirLeader(t *testing.T, c *clientv3.Client, name string) string {
	t.Helper()
	s, err := concurrency.NewSession(c)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	resp, err := concurrency.NewElection(s, name).Leader(t.Context())
	require.NoError(t, err)
	return string(resp.Kvs[0].Value)
}

// nothingBeside waits until no key of an election is there, of either kind.
func nothingBeside(t testing.TB, c *etcd.Client, name string) {
	t.Helper()
	nothingLeft(t, c, name)
	keysUnder(t, c.Raw(), name+"/", 0)
}

func TestElectionsOfBothKindsExcludeEachOther(t *testing.T) {
	t.Parallel()
	for contestant, take := range contestants {
		t.Run(contestant, func(t *testing.T) {
			t.Parallel()
			srv := server(t)
			c := client(t, config(srv).WithTimeout(busyTimeout))
			ctx, name := within(t, patience), prefix(t)+"election"
			e := newElection(t, c, name, etcd.WithBothKeys())

			release := take(t, srv, c.Raw(), name)
			outcome := campaigning(t, ctx, c, e, "ours", 1)
			keysUnder(t, c.Raw(), name+"/", 2)
			info, err := e.Leader(ctx)
			require.NoError(t, err)
			require.Equal(t, map[string]string{"election": "leader", "etcdctl elect": "candidate"}[contestant], string(info.Value))
			first, err := c.Raw().Get(ctx, name+"/", clientv3.WithFirstCreate()...)
			require.NoError(t, err)
			require.Equal(t, first.Kvs[0].CreateRevision, info.Token)
			require.Equal(t, first.Kvs[0].ModRevision, info.Revision)
			require.EqualValues(t, first.Kvs[0].Lease, info.Lease)
			require.Empty(t, outcome, "theirs")
			release()
			require.NoError(t, next(t, outcome))
			keysUnder(t, c.Raw(), name+"/", 1)

			released := make(chan func())
			go func() {
				defer close(released)
				released <- take(t, srv, c.Raw(), name)
			}()
			keysUnder(t, c.Raw(), name+"/", 2)
			require.Equal(t, "ours", theirLeader(t, c.Raw(), name))
			require.Equal(t, e.Token(), leads(t, c, name, "ours").Token)
			require.NoError(t, e.Proclaim(ctx, []byte("new")))
			require.Equal(t, "new", theirLeader(t, c.Raw(), name))
			leads(t, c, name, "new")
			require.NoError(t, c.Put(e.Guard(ctx), name+"-data", nil))
			require.Empty(t, released, "ours")
			require.NoError(t, e.Resign(ctx))
			next(t, released)()
			nothingBeside(t, c, name)
		})
	}
}

func TestElectionsWithAndWithoutBothKeysExclude(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"election"
	own, both := newElection(t, c, name), newElection(t, c, name, etcd.WithBothKeys())
	for _, pair := range [][2]*etcd.Election{{own, both}, {both, own}} {
		require.NoError(t, pair[0].Campaign(ctx, []byte("first")))
		outcome := campaigning(t, ctx, c, pair[1], "second", 2)
		for _, e := range pair {
			info, err := e.Leader(ctx)
			require.NoError(t, err)
			require.Equal(t, pair[0].Token(), info.Token)
		}
		require.Empty(t, outcome)
		require.NoError(t, pair[0].Resign(ctx))
		require.NoError(t, next(t, outcome))
		require.NoError(t, pair[1].Resign(ctx))
		nothingBeside(t, c, name)
	}

	// One that comes meanwhile, and leads beside clientv3's, holds up nobody but those of this package.
	own = newElection(t, c, name, etcd.WithPriority(1))
	resign := leading(t, c.Raw(), name, "theirs")
	outcome := campaigning(t, ctx, c, both, "both", 1)
	keysUnder(t, c.Raw(), name+"/", 2)
	seen, _ := observing(ctx, both)
	require.Equal(t, "theirs", next(t, seen))
	require.NoError(t, own.Campaign(ctx, []byte("own")))
	require.Equal(t, "own", next(t, seen))
	resign()
	keysUnder(t, c.Raw(), name+"/", 0)
	leading(t, c.Raw(), name, "theirs")()
	require.Empty(t, outcome)
	require.NoError(t, own.Resign(ctx))
	require.NoError(t, next(t, outcome))
	require.NoError(t, both.Resign(ctx))
	nothingBeside(t, c, name)
}

// Who waits for clientv3's leader is in the way of one that goes before it in this package.
func TestPriorityBesideClientv3LetsNobodyWaitForGood(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"election"
	resign := leading(t, c.Raw(), name, "theirs")
	low := newElection(t, c, name, etcd.WithBothKeys())
	lowest := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithPriority(-1))
	high := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithPriority(1))
	first := campaigning(t, ctx, c, low, "low", 1)
	keysUnder(t, c.Raw(), name+"/", 2)
	behind := youngestBeside(t, c.Raw(), name)
	third := campaigning(t, ctx, c, lowest, "lowest", 2)
	second := campaigning(t, ctx, c, high, "high", 3)
	entersBehind(t, c.Raw(), name, behind)
	resign()
	require.NoError(t, next(t, second))
	keysUnder(t, c.Raw(), name+"/", 1)
	require.Empty(t, first)
	require.NoError(t, high.Resign(ctx))
	require.NoError(t, next(t, first))
	require.Empty(t, third)
	require.NoError(t, low.Resign(ctx))
	require.NoError(t, next(t, third))
	require.NoError(t, lowest.Resign(ctx))
	nothingBeside(t, c, name)
}

func TestSuccessorBesideClientv3LeadsBeforeOthers(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"election"
	leader := newElection(t, c, name, etcd.WithBothKeys())
	require.NoError(t, leader.Campaign(ctx, nil))
	high := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithPriority(1))
	heir := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithCandidate("heir"))
	before := campaigning(t, ctx, c, high, "high", 2)
	named := campaigning(t, ctx, c, heir, "heir", 3)
	theirs := concurrency.NewElection(theirSession(t, c.Raw()), name)
	elected := make(chan error, 1)
	go func() { elected <- theirs.Campaign(ctx, "theirs") }()
	keysUnder(t, c.Raw(), name+"/", 2)
	require.NoError(t, leader.Resign(ctx, etcd.WithSuccessor("heir")))
	require.NoError(t, next(t, elected))
	keysUnder(t, c.Raw(), name+"/", 2)
	require.Equal(t, "theirs", theirLeader(t, c.Raw(), name))
	require.Empty(t, named)
	require.Empty(t, before)
	require.NoError(t, theirs.Resign(ctx))
	require.NoError(t, next(t, named))
	require.Empty(t, before)
	require.NoError(t, heir.Resign(ctx))
	require.NoError(t, next(t, before))
	require.NoError(t, high.Resign(ctx))
	nothingBeside(t, c, name)
}

func TestForeignKeyIsToldToAnElection(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"election"
	e, other := newElection(t, c, name, etcd.WithBothKeys()), newElection(t, c, name, etcd.WithBothKeys())
	for _, foreign := range []string{"/data", "/00ab", "/longer/name\x00"} {
		require.NoError(t, c.Put(ctx, name+foreign, nil))
		require.ErrorIs(t, e.Campaign(ctx, nil), etcd.ErrForeignKey)
		require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrForeignKey)
		require.ErrorIs(t, lastSeen(e.Observe(ctx)), etcd.ErrForeignKey)
		nothingLeft(t, c, name)
		keysUnder(t, c.Raw(), name+"/", 1)
		require.NoError(t, newElection(t, c, name).Campaign(ctx, nil), "without the option it doesn't matter")
		require.NoError(t, second(c.Delete(ctx, name+foreign)))
		require.NoError(t, second(c.DeletePrefix(ctx, name+"\x00")))
	}
	// One that comes later is in nobody's way, and one before those that wait is.
	require.NoError(t, e.Campaign(ctx, nil))
	require.NoError(t, c.Put(ctx, name+"/data", nil))
	outcome := campaigning(t, ctx, c, other, "", 2)
	require.NoError(t, e.Proclaim(ctx, []byte("value")))
	leads(t, c, name, "value")
	require.NoError(t, e.Resign(ctx))
	require.ErrorIs(t, next(t, outcome), etcd.ErrForeignKey)
	nothingLeft(t, c, name)
	keysUnder(t, c.Raw(), name+"/", 1)
}

func TestBothKeysOfALeaderHoldItsValue(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, name := within(t, patience), prefix(t)+"election"
		e := newElection(t, c, name, etcd.WithBothKeys())
		require.NoError(t, e.Campaign(ctx, []byte("first")))
		require.Equal(t, e.Token(), leads(t, c, name, "first").Token)
		own, err := c.ListWithValues(ctx, name+"/")
		require.NoError(t, err)
		require.Len(t, own, 1)
		info, err := e.Leader(ctx)
		require.NoError(t, err)
		key := fmt.Sprintf("%s/%x", name, int64(info.Lease))
		require.Equal(t, "first", string(own[key]))

		stored := strings.TrimSuffix(storedLeaderKey(t, c, name), leaderKey(""))
		seen := concurrency.NewElection(theirSession(t, c.Raw()), stored).Observe(ctx)
		for _, value := range []string{"first", "second", ""} {
			if value != "first" {
				require.NoError(t, e.Proclaim(ctx, []byte(value)))
			}
			got, err := c.Unseal(ctx, key, next(t, seen).Kvs[0].Value)
			require.NoError(t, err)
			require.Equal(t, value, string(got))
			leads(t, c, name, value)
		}
		require.NoError(t, c.Put(e.Guard(ctx), name+"-data", nil))
		require.NoError(t, e.Context().Err())
		require.NoError(t, e.Resign(ctx))
		own, err = c.ListWithValues(ctx, name+"/")
		require.NoError(t, err)
		require.Empty(t, own)
		nothingLeft(t, c, stored)
	})
}

func theirSession(t testing.TB, c *clientv3.Client) *concurrency.Session {
	t.Helper()
	s, err := concurrency.NewSession(c, concurrency.WithTTL(60))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestUndecodableLeaderOfClientv3IsNamedAnyway(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithEncryption(testKey))
	ctx, name := within(t, patience), prefix(t)+"election"
	e := newElection(t, c, name, etcd.WithBothKeys())
	resign := leading(t, c.Raw(), name, "not encrypted")
	info, err := e.Leader(ctx)
	require.ErrorIs(t, err, etcd.ErrNotEncrypted)
	var undecoded *etcd.DecodeError
	require.ErrorAs(t, err, &undecoded)
	require.Nil(t, info.Value)
	require.Positive(t, info.Token)
	require.NotZero(t, info.Lease)
	for told, err := range e.Observe(ctx) {
		require.ErrorIs(t, err, etcd.ErrNotEncrypted)
		require.Equal(t, info, told)
		break
	}
	outcome := campaigning(t, ctx, c, e, "ours", 1)
	keysUnder(t, c.Raw(), name+"/", 2)
	resign()
	require.NoError(t, next(t, outcome))
	require.NotContains(t, theirLeader(t, c.Raw(), name), "ours")
}

func TestCandidateOnItsWayIsNoLeader(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	ctx, name := within(t, patience), prefix(t)+"election"
	e := newElection(t, direct, name, etcd.WithBothKeys())
	require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
	c, proxy := cutOff(t, srv)
	slow := brokenElection(t, c, proxy, name, etcd.WithBothKeys(), etcd.WithLockTTL(time.Minute))
	resign := leading(t, direct.Raw(), name, "theirs")
	outcome := campaigning(t, ctx, direct, slow, "slow", 1)
	keysUnder(t, direct.Raw(), name+"/", 2)
	proxy.Pause() // so that it doesn't notice that it is its turn
	resign()
	require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
	seen, _ := observing(ctx, e)
	proxy.Heal()
	require.NoError(t, next(t, outcome))
	require.Equal(t, "slow", next(t, seen))
}

func TestObserveTellsLeadersOfBothKinds(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"election"
	e, s := newElection(t, c, name, etcd.WithBothKeys()), theirSession(t, c.Raw())
	theirs := concurrency.NewElection(s, name)
	seen, ended := observing(ctx, newElection(t, c, name, etcd.WithBothKeys()))
	require.NoError(t, theirs.Campaign(ctx, "a"))
	require.Equal(t, "a", next(t, seen))
	late, _ := observing(ctx, e)
	require.Equal(t, "a", next(t, late), "the present one")
	tells := func(want string) {
		t.Helper()
		for _, seen := range []<-chan string{seen, late} {
			require.Equal(t, want, next(t, seen))
		}
	}
	for range 2 { // the same value too
		require.NoError(t, theirs.Proclaim(ctx, "b"))
		tells("b")
	}
	outcome := campaigning(t, ctx, c, e, "c", 1)
	keysUnder(t, c.Raw(), name+"/", 2)
	require.NoError(t, theirs.Resign(ctx))
	require.NoError(t, next(t, outcome))
	tells("c")
	elected := make(chan error, 1)
	go func() { elected <- theirs.Campaign(ctx, "e") }()
	keysUnder(t, c.Raw(), name+"/", 2)
	require.NoError(t, e.Proclaim(ctx, []byte("d")))
	tells("d")
	require.NoError(t, e.Resign(ctx))
	require.NoError(t, next(t, elected))
	tells("e")
	require.NoError(t, theirs.Resign(ctx))
	require.NoError(t, newElection(t, c, name).Campaign(ctx, []byte("f")), "without the option")
	tells("f")
	require.Empty(t, seen)
	require.Empty(t, ended)
}

func TestLeadBesideClientv3RunsWhileItLeads(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"election"
	resign := leading(t, c.Raw(), name, "theirs")
	ended, runs := make(chan error, 1), 0
	go func() {
		ended <- c.Lead(ctx, name, []byte("ours"), func(ctx context.Context) error {
			assert.Equal(t, "ours", theirLeader(t, c.Raw(), name))
			if runs++; runs == 2 {
				return c.Put(ctx, name+"-data", nil)
			}
			assert.NoError(t, second(c.DeletePrefix(etcd.Unguarded(ctx), name+"/")))
			<-ctx.Done()
			assert.ErrorIs(t, context.Cause(ctx), etcd.ErrLockKeyDeleted)
			return nil
		}, etcd.WithBothKeys())
	}()
	keysUnder(t, c.Raw(), name+"/", 2)
	resign()
	require.NoError(t, next(t, ended))
	require.Equal(t, 2, runs, "again after a loss")
	nothingBeside(t, c, name)
}

func TestCampaignBesideClientv3TakesOneRoundTripMore(t *testing.T) {
	t.Parallel()
	seen := &requestLog{}
	c := client(t, config(server(t)).WithTimeout(busyTimeout).WithHooks(seen.hook()))
	ctx, name := within(t, patience), prefix(t)+"election"
	e := newElection(t, c, name, etcd.WithBothKeys())
	for _, want := range [][]string{{"grant", "campaign", "campaign", "campaign"}, {"campaign", "campaign", "campaign"}} {
		require.Equal(t, want, seen.during(func() { require.NoError(t, e.Campaign(ctx, nil)) }))
		for op, step := range map[string]func() error{
			"leader":   func() error { return second(e.Leader(ctx)) },
			"proclaim": func() error { return e.Proclaim(ctx, nil) },
			"put":      func() error { return c.Put(e.Guard(ctx), name+"-data", nil) },
		} {
			require.Equal(t, []string{op}, seen.during(func() { require.NoError(t, step()) }))
		}
		require.Equal(t, []string{"resign"}, seen.during(func() { require.NoError(t, e.Resign(ctx)) }))
		require.Equal(t, []string{"leader"}, seen.during(func() { require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant) }))
	}
}

func TestOldAndNewElectionsProtectACounter(t *testing.T) {
	t.Parallel()
	srv := server(t)
	clients := []*etcd.Client{client(t, config(srv).WithTimeout(busyTimeout)), client(t, config(srv).WithTimeout(busyTimeout))}
	ctx, name := within(t, patience), prefix(t)+"election"
	counter := prefix(t) + "counter"
	require.NoError(t, clients[0].Put(ctx, counter, []byte("0")))
	const rounds = 15
	var workers sync.WaitGroup
	for i, c := range clients {
		for _, e := range []*etcd.Election{
			newElection(t, c, name, etcd.WithBothKeys()),
			newElection(t, c, name, etcd.WithBothKeys(), etcd.WithPriority(i)),
			newElection(t, c, name, etcd.WithBothKeys(), etcd.WithPriority(-i)),
		} {
			workers.Go(func() {
				for range rounds {
					assert.NoError(t, e.Campaign(ctx, nil))
					assert.NoError(t, incrementAlone(e.Guard(ctx), c, counter))
					assert.NoError(t, e.Resign(ctx))
				}
			})
		}
		theirs := concurrency.NewElection(theirSession(t, c.Raw()), name)
		workers.Go(func() {
			for range rounds {
				assert.NoError(t, theirs.Campaign(ctx, ""))
				assert.NoError(t, incrementAlone(ctx, c, counter))
				assert.NoError(t, theirs.Resign(ctx))
			}
		})
	}
	workers.Wait()
	value, err := clients[0].Get(ctx, counter)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(2*4*rounds), string(value))
	nothingBeside(t, clients[0], name)
}

// incrementAlone adds one to a counter, for those who have it alone.
func incrementAlone(ctx context.Context, c *etcd.Client, key string) error {
	value, err := c.Get(ctx, key)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(value))
	if err != nil {
		return err
	}
	return c.Put(ctx, key, []byte(strconv.Itoa(n+1)))
}

// youngestBeside returns the create revision of the youngest key of an election in the queue of
// package concurrency.
func youngestBeside(t testing.TB, c *clientv3.Client, name string) int64 {
	t.Helper()
	resp, err := c.Get(t.Context(), name+"/", clientv3.WithLastCreate()...)
	require.NoError(t, err)
	if len(resp.Kvs) == 0 {
		return 0
	}
	return resp.Kvs[0].CreateRevision
}

// entersBehind returns when somebody has entered that queue after a revision. Who was there before
// may have looked again meanwhile, and stepped back.
func entersBehind(t testing.TB, c *clientv3.Client, name string, after int64) {
	t.Helper()
	require.Eventually(t, func() bool { return youngestBeside(t, c, name) > after }, patience, 10*time.Millisecond)
}
