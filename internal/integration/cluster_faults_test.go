package integration

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// requireReads holds that many reads at once succeed within their deadlines.
func requireReads(t *testing.T, c *etcd.Client, key string) {
	t.Helper()
	began := time.Now()
	var reads sync.WaitGroup
	for range 64 {
		reads.Go(func() { assert.NoError(t, get(c, key)(within(t, beforeGivenUp))) })
	}
	reads.Wait()
	t.Logf("64 reads took %v", time.Since(began).Round(time.Millisecond))
}

func TestWithoutQuorumCallsEndAndSerializableReadsSucceed(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	c, key := client(t, cluster.config()), prefix(t)
	require.NoError(t, c.Put(t.Context(), key, nil))
	left := cluster.members[0]
	// A linearizable read from the one that stays: it has the key.
	require.NoError(t, get(client(t, etcd.DefaultConfig().WithEndpoints(left.addr)), key)(within(t, busyTimeout)))
	cluster.after(left, 1).kill()
	cluster.after(left, 2).kill()

	requireEnds(t, get(c, key))
	requireEnds(t, func(ctx context.Context) error { return second(c.BulkGet(ctx, []string{key})) })
	// No leader takes it, but one might yet.
	require.True(t, etcd.MaybeApplied(requireEnds(t, put(c, key))))
	for range 10 {
		require.NoError(t, get(c, key, etcd.WithSerializable())(within(t, patience)))
	}
	cluster.heal()
	t.Logf("back after %v", requireBack(t, put(c, key)).Round(time.Millisecond))
}

func TestReadsLeaveAMemberCutOffFromOthers(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	c, key := client(t, cluster.config()), prefix(t)
	require.NoError(t, c.Put(t.Context(), key, nil))
	for name, choose := range map[string]func() *peer{
		"leader":   cluster.leader,
		"follower": func() *peer { return cluster.after(cluster.leader(), 1) },
	} {
		t.Run(name, func(t *testing.T) {
			alone := choose()
			pinned := client(t, etcd.DefaultConfig().WithEndpoints(alone.proxy.Endpoint()))
			cluster.isolate(alone)
			requireReads(t, c, key)
			requireEnds(t, get(pinned, key))
			require.True(t, etcd.MaybeApplied(requireEnds(t, put(pinned, key))))
			require.NoError(t, get(pinned, key, etcd.WithSerializable())(within(t, patience)))
			cluster.heal()
			t.Logf("back after %v", requireBack(t, put(pinned, key)).Round(time.Millisecond))
		})
	}
}

func TestReadsSucceedBesideABlackholedMember(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	c, key := client(t, cluster.config()), prefix(t)
	require.NoError(t, c.Put(t.Context(), key, nil))
	silent := cluster.members[1]
	require.Eventually(t, func() bool {
		_ = c.Put(within(t, 5*time.Second), key, nil)
		return silent.proxy.Connections() > 0
	}, busyTimeout, time.Millisecond)
	silent.proxy.Blackhole()
	pace, began := keepPace(t), time.Now()
	requireReads(t, c, key)

	// Writes that go there are lost until the connection is given up; from then on
	// all go elsewhere.
	lost := 0
	require.Eventually(t, func() bool {
		for range 2 * clusterSize {
			if err := put(c, key)(within(t, 500*time.Millisecond)); err != nil {
				lost++
				return !assert.True(t, etcd.MaybeApplied(err))
			}
		}
		return true
	}, busyTimeout, time.Millisecond)
	took := time.Since(began)
	t.Logf("%d writes were lost in %v", lost, took.Round(time.Millisecond))
	require.Less(t, took, pace.allow(givenUp+5*time.Second))
}

func TestCallsSucceedWithinTwoSecondsOfHealing(t *testing.T) {
	t.Parallel()
	requireBackSoon(t, []endpointFault{
		{"blackholed", func(p *peer) { p.proxy.Blackhole() }, 2 * time.Second},
		{"held back", func(p *peer) { p.proxy.Pause() }, 2 * time.Second},
		{"refused", func(p *peer) {
			p.proxy.Refuse()
			p.proxy.Cut()
		}, 4 * time.Second},
	})
}
