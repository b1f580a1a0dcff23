package integration

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blueprint-go/etcd/etcdtest"
)

// clusterFaults are what a cluster has to survive. Each befalls one member, or
// all ways to the cluster, until the cluster is healed.
var clusterFaults = []struct {
	name  string
	begin func(c *cluster, victim *peer)
}{
	{"kill", func(_ *cluster, victim *peer) { victim.kill() }},
	{"kill two", func(c *cluster, victim *peer) {
		victim.kill()
		c.after(victim, 1).kill()
	}},
	{"pause", func(_ *cluster, victim *peer) { victim.pause() }},
	{"isolate", func(c *cluster, victim *peer) { c.isolate(victim) }},
	{"refuse", func(_ *cluster, victim *peer) {
		victim.proxy.Refuse()
		victim.proxy.Cut()
	}},
	{"refuse all", func(c *cluster, _ *peer) {
		for _, p := range c.members {
			p.proxy.Refuse()
			p.proxy.Cut()
		}
	}},
	{"lose requests and answers", func(_ *cluster, victim *peer) { victim.proxy.Blackhole() }},
	{"lose answers", func(_ *cluster, victim *peer) { victim.proxy.Blackhole(etcdtest.ToClient) }},
	{"cut all", func(c *cluster, _ *peer) {
		for _, p := range c.members {
			p.proxy.Cut()
		}
	}},
	{"hold all back", func(c *cluster, _ *peer) {
		for _, p := range c.members {
			p.proxy.Pause()
		}
	}},
	{"delay all", func(c *cluster, _ *peer) {
		for _, p := range c.members {
			p.proxy.Delay(5*time.Millisecond, 20*time.Millisecond)
		}
	}},
}

// How long a fault lasts and how long the cluster then has to itself, at the least
// and at the most: most faults outlast an election.
const (
	minFault, maxFault = electionTimeout / 2, 5 * electionTimeout / 2
	minPeace, maxPeace = electionTimeout / 2, 3 * electionTimeout / 2
)

var nemesisSeed = flag.Uint64("nemesis.seed", 0, "what faults and operations are drawn from; 0 means the clock")

// drawSeed returns the seed of a test and tells it.
func drawSeed(t *testing.T) uint64 {
	t.Helper()
	seed := *nemesisSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-nemesis.seed %d", seed)
	return seed
}

// nemesis does one fault after the other to a cluster, until it is stopped.
type nemesis struct {
	cluster *cluster
	random  *rand.Rand
	log     []string
	// dealt is closed when every fault has been there once.
	dealt  chan struct{}
	done   atomic.Int64 // faults that have been there
	cancel context.CancelFunc
	ended  chan struct{}
}

// startNemesis starts one whose choices follow from the seed.
func startNemesis(c *cluster, seed uint64) *nemesis {
	ctx, cancel := context.WithCancel(context.Background())
	n := &nemesis{
		cluster: c,
		random:  rand.New(rand.NewPCG(seed, 0)),
		dealt:   make(chan struct{}),
		cancel:  cancel,
		ended:   make(chan struct{}),
	}
	c.t.Cleanup(n.stop)
	go n.run(ctx)
	return n
}

// stop ends the faults. It may be called again.
func (n *nemesis) stop() {
	n.cancel()
	<-n.ended
}

// logIfFailed tells what was done to the cluster, which has been stopped.
func (n *nemesis) logIfFailed(t *testing.T) {
	t.Helper()
	n.stop()
	if t.Failed() {
		t.Logf("what was done to the cluster:\n%s", strings.Join(n.log, "\n"))
	}
}

func (n *nemesis) run(ctx context.Context) {
	defer close(n.ended)
	began := time.Now()
	for round := 0; ; round++ {
		for i, kind := range n.random.Perm(len(clusterFaults)) {
			if round == 1 && i == 0 {
				close(n.dealt)
			}
			if !n.wait(ctx, minPeace, maxPeace) {
				return
			}
			fault, victim := clusterFaults[kind], n.victim()
			n.log = append(n.log, fmt.Sprintf("%v: %s, member %d", time.Since(began).Round(time.Millisecond), fault.name, victim.number))
			fault.begin(n.cluster, victim)
			goesOn := n.wait(ctx, minFault, maxFault)
			n.cluster.heal()
			n.done.Add(1)
			if !goesOn {
				return
			}
		}
	}
}

// victim is the leader every other time, as its loss hurts most.
func (n *nemesis) victim() *peer {
	victim := n.cluster.members[n.random.IntN(clusterSize)]
	if n.random.IntN(2) == 0 {
		if leader := n.cluster.findLeader(); leader != nil {
			return leader
		}
	}
	return victim
}

// wait waits for a random time and reports whether the nemesis should go on.
func (n *nemesis) wait(ctx context.Context, least, most time.Duration) bool {
	timer := time.NewTimer(least + time.Duration(n.random.Int64N(int64(most-least))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// hasDealt reports whether every fault has been there once.
func (n *nemesis) hasDealt() bool {
	select {
	case <-n.dealt:
		return true
	case <-n.ended: // something is wrong with the cluster itself
		return true
	default:
		return false
	}
}
