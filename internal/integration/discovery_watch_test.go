package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestUnknownServiceFailsFastByName(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	_, err := discovery.Instances(ctx, c, "nobody")
	require.ErrorIs(t, err, discovery.ErrUnknownService)
	require.ErrorContains(t, err, `"nobody"`)
	states := statesOf(ctx, c, "nobody")
	first := next(t, states)
	require.ErrorIs(t, first.err, discovery.ErrUnknownService)
	require.ErrorContains(t, first.err, `"nobody"`)
	r := registered(t, c, "nobody", "a")
	require.NoError(t, stateWith(t, states, "a").err)
	require.NoError(t, r.Close(ctx))
	require.ErrorIs(t, stateWith(t, states).err, discovery.ErrUnknownService)
}

func TestNamesThatContainOthersAreKeptApart(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	names := []string{"a", "a/b", "a/b/c", "a%2Fb", "..", "größe", "a b", "a\x00", "A"}
	for _, service := range names {
		for _, id := range names {
			registered(t, c, service, id)
		}
	}
	for _, service := range names {
		require.ElementsMatch(t, names, ids(t, c, service), service)
	}
	require.Empty(t, ids(t, c, "a", discovery.WithPrefix("/elsewhere/")))
}

func TestUndecodableInstanceHidesNoOther(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, plain := client(t, config(srv).WithEncryption(testKey)), client(t, config(srv))
	ctx := within(t, patience)
	registered(t, c, "cart", "a")
	registered(t, c, "cart", "z")
	require.NoError(t, plain.Put(ctx, "/services/cart/plain", []byte(`{"address":"x"}`)))
	require.NoError(t, c.Put(ctx, "/services/cart/garbage", []byte("{")))
	require.NoError(t, c.Put(ctx, "/services/cart/nowhere", []byte(`{}`)))
	require.NoError(t, c.Put(ctx, "/services/cart/below/it", []byte(`{"address":"x"}`)))
	require.NoError(t, c.Put(ctx, "/services/cart/light", []byte(`{"address":"x","weight":-1}`)))
	require.NoError(t, c.Put(ctx, "/services/cart/half", []byte(`{"address":"x","weight":0.5}`)))
	check := func(found []discovery.Instance, bad func(error)) {
		require.Equal(t, []string{"a", "z"}, idsOf(found))
		bad(etcd.ErrNotEncrypted)
		bad(etcd.ErrEncoding)
	}
	found, err := discovery.Instances(ctx, c, "cart")
	check(found, func(want error) { require.ErrorIs(t, err, want) })
	state := next(t, statesOf(ctx, c, "cart"))
	require.NoError(t, state.err)
	require.ElementsMatch(t, []string{"plain", "garbage", "nowhere", "below/it", "light", "half"}, slices.Collect(maps.Keys(state.Bad)))
	check(state.Instances, func(want error) {
		require.Condition(t, func() bool {
			return etcdAny(state.Bad["plain"], want) || etcdAny(state.Bad["garbage"], want)
		})
	})
	found, err = discovery.Instances(ctx, c, "cart") // from memory now
	check(found, func(want error) { require.ErrorIs(t, err, want) })
}

func TestServiceKeepsItsLastStateInAnOutage(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	ctx := within(t, patience)
	r := registered(t, o.direct, "cart", "a")
	watching, stop := context.WithCancel(ctx)
	states := statesOf(watching, o.c, "cart", discovery.WithWarm(time.Hour))
	stateWith(t, states, "a")
	o.begin()
	found, err := discovery.Instances(t.Context(), o.c, "cart")
	require.True(t, etcd.IsRetryable(err))
	require.Equal(t, []string{"a"}, idsOf(found))
	stop()
	for range states {
	}
	again := statesOf(ctx, o.c, "cart")
	require.NoError(t, stateWith(t, again, "a").err, "warm, without a request")
	unread := next(t, statesOf(ctx, o.c, "other"))
	require.Error(t, unread.err)
	require.NotErrorIs(t, unread.err, discovery.ErrUnknownService)
	registered(t, o.direct, "cart", "b")
	require.NoError(t, r.Close(ctx))
	o.proxy.Heal()
	stateWith(t, again, "b")
}

func TestLoopsOverAServiceShareAMirror(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	registered(t, client(t, config(srv)), "cart", "a")
	ctx := within(t, patience)
	stateWith(t, statesOf(ctx, c, "cart"), "a")
	require.Eventually(t, func() bool { // the first one's mirror still verifies what it has
		return len(o.during(func() {
			for range 50 {
				stateWith(t, statesOf(ctx, c, "cart"), "a")
			}
		})) == 0
	}, patience, 10*time.Millisecond)
}

// The instances run on, and their registrations notice one after the other.
func TestRestoreTakesNoInstanceFromWatchers(t *testing.T) {
	t.Parallel()
	const n = 10
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir), etcdtest.WithFsync())
	c, watching := client(t, config(srv)), client(t, config(srv))
	ctx := within(t, patience)
	backup := copied(t, srv, dir)
	var all []string
	var regs []*discovery.Registration
	for i := range n {
		all = append(all, fmt.Sprint(i))
		regs = append(regs, registered(t, c, "cart", fmt.Sprint(i)))
	}
	for range 50 { // so that the history can be told from the other one
		require.NoError(t, c.Put(ctx, "/k", nil))
	}
	regs = append(regs, registered(t, c, "cart", "last"))
	states := statesOf(ctx, watching, "cart")
	stateWith(t, states, append(all, "last")...)
	putBack(t, srv, dir, backup)
	for _, r := range regs {
		require.Eventually(t, func() bool {
			kv, err := c.GetKV(ctx, r.Key())
			return err == nil && kv.Lease == r.Status().Lease && r.Status().Registered
		}, patience, time.Millisecond)
	}
	registered(t, c, "cart", "new")
	for {
		s := next(t, states)
		require.Subset(t, idsOf(s.Instances), append(all, "last"))
		if len(s.Instances) == n+2 {
			return
		}
	}
}

// A loop that takes its time gets the newest.
func TestSlowWatcherGetsTheNewestInstances(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	r := registered(t, c, "cart", "a")
	states := statesOf(ctx, c, "cart")
	stateWith(t, states, "a")
	for i := range 200 {
		require.NoError(t, r.Update(ctx, discovery.Instance{Address: fmt.Sprint(i)}))
	}
	seen := 0
	for next(t, states).Instances[0].Address != "199" {
		seen++
	}
	require.Less(t, seen, 200)
}
