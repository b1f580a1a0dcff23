package integration

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestElectionHasOneLeaderAtATime(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"election", within(t, patience)
		var mu sync.Mutex
		leading, most := 0, 0
		var token int64
		var workers sync.WaitGroup
		for i := range 5 {
			e := newElection(t, c, name)
			workers.Go(func() {
				for range 5 {
					assert.NoError(t, e.Campaign(ctx, fmt.Append(nil, i)))
					mu.Lock()
					leading++
					most = max(most, leading)
					assert.Greater(t, e.Token(), token)
					token = e.Token()
					mu.Unlock()
					info, err := e.Leader(ctx)
					assert.NoError(t, err)
					assert.Equal(t, e.Token(), info.Token)
					assert.Equal(t, fmt.Sprint(i), string(info.Value))
					assert.NoError(t, c.Put(e.Guard(ctx), name+"/data", nil))
					mu.Lock()
					leading--
					mu.Unlock()
					assert.NoError(t, e.Resign(ctx))
				}
			})
		}
		workers.Wait()
		require.Equal(t, 1, most)
		nothingLeft(t, c, name)
	})
}

func TestLeaderIsWhoWasElected(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"election", within(t, patience)
		e := newElection(t, c, name)
		require.Equal(t, name, e.Name())
		require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
		require.NoError(t, e.Campaign(ctx, nil))
		info := leads(t, c, name, "")
		require.NotNil(t, info.Value)
		require.Equal(t, e.Token(), info.Token)
		require.Equal(t, info.Token, info.Revision)
		require.NotZero(t, info.Lease)
		require.NoError(t, e.Context().Err())

		require.NoError(t, e.Proclaim(ctx, []byte("second")))
		again := leads(t, c, name, "second")
		require.Equal(t, e.Token(), again.Token)
		require.Greater(t, again.Revision, info.Revision)
		require.Equal(t, info.Lease, again.Lease)

		held := e.Context()
		require.NoError(t, e.Resign(ctx))
		require.ErrorIs(t, context.Cause(held), context.Canceled)
		require.ErrorIs(t, context.Cause(e.Context()), etcd.ErrNotHeld)
		require.Zero(t, e.Token())
		require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
		nothingLeft(t, c, name)
	})
}

func TestProclaimedValueNeverEndsTheLeadership(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	e := newElection(t, c, name, etcd.WithLockTTL(2*time.Second)) // its key is looked at each quarter of a second
	require.NoError(t, e.Campaign(ctx, []byte("first")))
	guarded := e.Guard(ctx)
	began := time.Now()
	for i := 0; time.Since(began) < 3*time.Second; i++ {
		require.NoError(t, e.Proclaim(guarded, fmt.Append(nil, i)))
		require.NoError(t, c.Put(guarded, name+"/data", nil))
		leads(t, c, name, fmt.Sprint(i))
	}
	require.NoError(t, e.Context().Err())
	require.NoError(t, e.Resign(guarded), "by its own guard")
}

func TestElectionRefusesBadInputUnsent(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		var none context.Context
		ctx := within(t, patience)
		work := func(context.Context) error { return nil }
		e, s := newElection(t, c, "election"), newSession(t, c)
		for name, tc := range map[string]struct {
			want error
			call func() error
		}{
			"empty name":         {etcd.ErrEmptyKey, func() error { return second(c.NewElection("")) }},
			"NUL in the name":    {etcd.ErrInvalidArgument, func() error { return second(c.NewElection("a\x00b")) }},
			"long name":          {etcd.ErrTooLarge, func() error { return second(c.NewElection(strings.Repeat("n", etcd.DefaultMaxKeyBytes-60))) }},
			"nil option":         {etcd.ErrInvalidArgument, func() error { return second(c.NewElection("e", nil)) }},
			"nil session":        {etcd.ErrInvalidArgument, func() error { return second(c.NewElection("e", etcd.WithSession(nil))) }},
			"TTL 0":              {etcd.ErrInvalidTTL, func() error { return second(c.NewElection("e", etcd.WithLockTTL(0))) }},
			"two TTLs":           {etcd.ErrInvalidArgument, func() error { return second(c.NewElection("e", etcd.WithLockTTL(time.Minute), etcd.WithSession(s))) }},
			"two keys, session":  {etcd.ErrInvalidArgument, func() error { return second(c.NewElection("e", etcd.WithSession(s), etcd.WithBothKeys())) }},
			"nameless candidate": {etcd.ErrInvalidArgument, func() error { return second(c.NewElection("e", etcd.WithCandidate(""))) }},
			"NUL in a candidate": {etcd.ErrInvalidArgument, func() error { return second(c.NewElection("e", etcd.WithCandidate("a\x00"))) }},
			"long owner":         {etcd.ErrTooLarge, func() error { return second(c.NewElection("e", etcd.WithOwner(strings.Repeat("o", 1025)))) }},
			"owner not in UTF-8": {etcd.ErrInvalidArgument, func() error { return second(c.NewElection("e", etcd.WithOwner("\xff"))) }},
			"campaign by nil":    {etcd.ErrNilContext, func() error { return e.Campaign(none, nil) }},
			"large value":        {etcd.ErrTooLarge, func() error { return e.Campaign(ctx, largeValue(t, etcd.DefaultMaxRequestBytes)) }},
			"proclaim by nil":    {etcd.ErrNilContext, func() error { return e.Proclaim(none, nil) }},
			"proclaim unelected": {etcd.ErrNotHeld, func() error { return e.Proclaim(ctx, nil) }},
			"resign by nil":      {etcd.ErrNilContext, func() error { return e.Resign(none) }},
			"resign unelected":   {etcd.ErrNotHeld, func() error { return e.Resign(ctx) }},
			"resign nil option":  {etcd.ErrInvalidArgument, func() error { return e.Resign(ctx, nil) }},
			"nameless successor": {etcd.ErrInvalidArgument, func() error { return e.Resign(ctx, etcd.WithSuccessor("")) }},
			"leader by nil":      {etcd.ErrNilContext, func() error { return second(e.Leader(none)) }},
			"queue by nil":       {etcd.ErrNilContext, func() error { return second(e.Queue(none)) }},
			"observe by nil":     {etcd.ErrNilContext, func() error { return lastSeen(e.Observe(none)) }},
			"lead nothing":       {etcd.ErrInvalidArgument, func() error { return c.Lead(ctx, "e", nil, nil) }},
			"lead by nil":        {etcd.ErrNilContext, func() error { return c.Lead(none, "e", nil, work) }},
			"lead without name":  {etcd.ErrEmptyKey, func() error { return c.Lead(ctx, "", nil, work) }},
			"lead nil option":    {etcd.ErrInvalidArgument, func() error { return c.Lead(ctx, "e", nil, work, nil) }},
		} {
			requireRefused(t, o, name, tc.want, tc.call)
		}
		require.Nil(t, e.Guard(none))
		ended, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(t, e.Campaign(ended, nil), context.Canceled)
		require.NoError(t, s.Close(ctx))
		requireRefused(t, o, "closed session", etcd.ErrClosed, func() error { return second(c.NewElection("e", etcd.WithSession(s))) })
		require.NoError(t, e.Close())
		require.NoError(t, e.Close(), "again")
		requireRefused(t, o, "campaign after close", etcd.ErrClosed, func() error { return e.Campaign(ctx, nil) })
		requireRefused(t, o, "proclaim after close", etcd.ErrClosed, func() error { return e.Proclaim(ctx, nil) })
		requireRefused(t, o, "observe after close", etcd.ErrClosed, func() error { return lastSeen(e.Observe(ctx)) })
	})
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	require.ErrorIs(t, second(other.NewElection("e", etcd.WithSession(newSession(t, c)))), etcd.ErrInvalidArgument)
}

func TestSecondCampaignOfAnElectionIsRefused(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	e, other := newElection(t, c, name), newElection(t, c, name)
	require.NoError(t, e.Campaign(ctx, nil))
	require.ErrorIs(t, e.Campaign(ctx, nil), etcd.ErrLeading)
	waiting := campaigning(t, ctx, c, other, "other", 2)
	require.ErrorIs(t, other.Campaign(ctx, nil), etcd.ErrCampaigning)
	require.ErrorIs(t, other.Resign(ctx), etcd.ErrNotHeld)
	require.EqualValues(t, 2, standing(t, c, name))
	require.NoError(t, e.Resign(ctx))
	require.NoError(t, next(t, waiting))
	require.NoError(t, other.Resign(ctx))
}

func TestCandidatesLeadByPriorityThenInOrder(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	first := newElection(t, c, name)
	require.NoError(t, first.Campaign(ctx, nil))
	elected := make(chan string, 10)
	var resigning sync.WaitGroup
	n := int64(1)
	for _, priority := range []int{0, math.MinInt, 5, -1, 5, math.MaxInt, 0} {
		e := newElection(t, c, name, etcd.WithPriority(priority))
		value := fmt.Sprintf("%d of %d", n, priority)
		n++
		won := campaigning(t, ctx, c, e, value, n)
		resigning.Go(func() {
			assert.NoError(t, <-won)
			elected <- value
			assert.NoError(t, e.Resign(ctx))
		})
	}
	require.NoError(t, first.Resign(ctx))
	for _, want := range []string{
		fmt.Sprint("6 of ", math.MaxInt), "3 of 5", "5 of 5", "1 of 0", "7 of 0", "4 of -1", fmt.Sprint("2 of ", math.MinInt),
	} {
		require.Equal(t, want, next(t, elected))
	}
	resigning.Wait() // the key is gone before the answer is there
	nothingLeft(t, c, name)
}

func TestElectionsOnOneSessionAreApart(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"election", within(t, patience)
		s := newSession(t, c)
		a, b := newElection(t, c, name, etcd.WithSession(s)), newElection(t, c, name, etcd.WithSession(s))
		elsewhere := newElection(t, c, name+"/x", etcd.WithSession(s))
		require.NoError(t, a.Campaign(ctx, []byte("a")))
		require.NoError(t, elsewhere.Campaign(ctx, []byte("elsewhere")))
		waiting := campaigning(t, ctx, c, b, "b", 2)
		require.Equal(t, s.Lease(), leads(t, c, name, "a").Lease)
		require.NoError(t, a.Resign(ctx))
		require.NoError(t, next(t, waiting))
		leads(t, c, name, "b")
		require.NoError(t, b.Close())
		leads(t, c, name+"/x", "elsewhere")
		require.NoError(t, s.Close(ctx))
		closes(t, elsewhere.Context().Done())
		for _, reason := range []error{etcd.ErrLockLost, etcd.ErrClosed} {
			require.ErrorIs(t, context.Cause(elsewhere.Context()), reason)
		}
		require.ErrorIs(t, elsewhere.Resign(ctx), etcd.ErrLockLost)
		require.ErrorIs(t, elsewhere.Campaign(ctx, nil), etcd.ErrClosed)
		nothingLeft(t, c, name)
	})
}

func TestClosedElectionResignsAndEndsItsCampaign(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	e, other := newElection(t, c, name), newElection(t, c, name)
	require.NoError(t, e.Campaign(ctx, nil))
	waiting := campaigning(t, ctx, c, other, "other", 2)
	pace, began := keepPace(t), time.Now()
	require.NoError(t, other.Close())
	require.ErrorIs(t, next(t, waiting), etcd.ErrClosed)
	require.Less(t, time.Since(began), pace.allow(7*time.Second), "before it would look again")
	stand(t, c, name, 1)
	held := e.Context()
	require.NoError(t, e.Close())
	closes(t, held.Done())
	nothingLeft(t, c, name)
}

func TestElectionAndLockOfOneNameAreApart(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"name", within(t, patience)
	e, l := newElection(t, c, name), newLock(t, c, name)
	require.NoError(t, e.Campaign(ctx, nil))
	require.NoError(t, l.Lock(ctx))
	require.NoError(t, l.Unlock(ctx))
	require.NoError(t, l.Lock(ctx))
	require.NoError(t, e.Resign(ctx))
	require.NoError(t, e.Campaign(ctx, nil))
	require.NoError(t, e.Resign(ctx))
	require.NoError(t, l.Unlock(ctx))
}
