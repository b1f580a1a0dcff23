package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestTypedWatchTellsItsStateWhenAsked(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	p, ctx := prefix(t), within(t, patience)
	direct := etcd.NewTyped[user](client(t, config(srv)), p)
	put := func(name string) {
		t.Helper()
		require.NoError(t, direct.Put(ctx, name, user{Name: name}))
	}
	// What comes is what each step of the loop brings about.
	var states []etcd.WatchState
	var names []string
	for ev, err := range etcd.NewTyped[user](c, p).Watch(ctx, etcd.WithWatchStatus()) {
		require.NoError(t, err)
		if ev.State == etcd.WatchEvents {
			require.NoError(t, ev.Cause)
			require.Equal(t, ev.Name, ev.Value.Name)
			if names = append(names, ev.Name); len(names) == 2 {
				break
			}
			proxy.Refuse()
			proxy.Cut()
			continue
		}
		require.Empty(t, ev.Name)
		require.Zero(t, ev.Value)
		require.Positive(t, ev.ModRevision)
		switch states = append(states, ev.State); ev.State {
		case etcd.WatchRegistered:
			put("ann")
		case etcd.WatchInterrupted:
			require.ErrorIs(t, ev.Cause, etcd.ErrUnavailable)
			put("bob")
			proxy.Heal()
		}
	}
	require.Equal(t, []string{"ann", "bob"}, names)
	require.Equal(t, []etcd.WatchState{etcd.WatchRegistered, etcd.WatchInterrupted, etcd.WatchResumed}, states)
}

func TestTypedWatchKeepsItsStateToItselfUnasked(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	p, ctx := prefix(t), within(t, patience)
	users := etcd.NewTyped[user](c, p)
	require.NoError(t, users.Put(ctx, "ann", user{Name: "ann"}))
	seen := 0
	for ev, err := range users.Watch(ctx, etcd.WithRevision(2)) {
		require.NoError(t, err)
		require.Equal(t, etcd.WatchEvents, ev.State)
		require.Equal(t, "ann", ev.Name)
		if seen++; seen == 2 {
			break
		}
		proxy.Cut()
		require.NoError(t, etcd.NewTyped[user](client(t, config(srv)), p).Put(ctx, "ann", user{Name: "ann"}))
	}
}
