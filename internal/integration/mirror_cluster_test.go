package integration

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// ordeal is a cluster with readers of all kinds that one thing befalls.
type ordeal struct {
	*historyRun
	random *rand.Rand
	direct []*etcd.Client // of each member, by no proxy
}

func newOrdeal(t *testing.T) *ordeal {
	t.Helper()
	return newOrdealOf(t, newCluster(t))
}

func newOrdealOf(t *testing.T, c *cluster) *ordeal {
	t.Helper()
	r := newHistoryRun(t, c, modes[0].set)
	o := &ordeal{historyRun: r, random: rand.New(rand.NewPCG(r.seed, 0))}
	for _, p := range r.cluster.members {
		o.direct = append(o.direct, client(t, etcd.DefaultConfig().WithEndpoints(p.addr).WithTimeout(2*time.Second)))
	}
	r.historyReaders()
	o.write(r.cluster.members[0])
	o.keepUp()
	return o
}

// write makes writes by a member that serves, or will.
func (o *ordeal) write(by *peer) {
	o.t.Helper()
	for known := o.truth.size(); o.truth.size() < known+200; {
		require.NoError(o.t, o.t.Context().Err())
		o.historyRun.write(o.direct[by.number], o.random)
	}
}

// keepUp waits until all readers know what happened, while what befell the cluster lasts.
func (o *ordeal) keepUp() {
	o.t.Helper()
	// What readers of parts are told as well.
	put, deleted := o.mark()
	o.awaitAll(put, deleted)
}

// each has something befall one member after the other, which all readers must outlast.
func (o *ordeal) each(begin func(p *peer)) {
	o.t.Helper()
	for _, p := range o.cluster.members {
		begin(p)
		o.write(o.cluster.after(p, 1))
		o.keepUp()
		o.cluster.heal()
		o.cluster.waitReady()
	}
	o.check(0)
}

func TestWatchesAndMirrorsOutliveKilledMembers(t *testing.T) {
	t.Parallel()
	newOrdeal(t).each(func(p *peer) { p.kill() })
}

func TestWatchesAndMirrorsOutliveTheirLeader(t *testing.T) {
	t.Parallel()
	o := newOrdeal(t)
	for range 2 {
		leader := o.cluster.leader()
		leader.kill()
		o.write(o.cluster.after(leader, 1))
		o.keepUp()
		o.cluster.heal()
		o.cluster.waitReady()
	}
	o.check(0)
}

func TestWatchesAndMirrorsLeavePausedMembers(t *testing.T) {
	t.Parallel()
	newOrdeal(t).each(func(p *peer) { p.pause() })
}

func TestWatchesAndMirrorsOutliveRestartOfAllMembers(t *testing.T) {
	t.Parallel()
	o := newOrdeal(t)
	for range 2 {
		for _, p := range o.cluster.members {
			p.kill()
		}
		o.cluster.heal()
		o.write(o.cluster.members[0])
		o.keepUp()
	}
	o.cluster.waitReady()
	o.check(0)
}

// The client reaches only the member that is cut off from the others, and then these.
func TestWatchesAndMirrorsLeaveLosingSideOfPartition(t *testing.T) {
	t.Parallel()
	o := newOrdeal(t)
	alone := o.cluster.leader()
	for n := 1; n < clusterSize; n++ {
		other := o.cluster.after(alone, n).proxy
		other.Refuse()
		other.Cut()
	}
	o.cluster.isolate(alone)
	m := o.mirrors[0].m
	require.Eventually(t, func() bool { return !m.Status().Connected }, patience, 10*time.Millisecond)
	require.Error(t, m.Status().Cause)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.Error(t, m.Fresh(ctx), "nobody can know that the mirror is complete")

	o.write(o.cluster.after(alone, 1))
	for n := 1; n < clusterSize; n++ {
		o.cluster.after(alone, n).proxy.Heal()
	}
	o.keepUp()
	o.cluster.heal()
	o.check(0)
}
