package integration

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

var linearOperations = flag.Int64("linear.operations", 1500, "how many operations a history has at the least")

const (
	// historyWorkers share historyClients in turn.
	historyWorkers = 16
	historyClients = 4
	// longCall is the deadline of most calls. A write that hangs with its leader is
	// given up soon, so that the next fault finds the worker at work.
	longCall = 2 * time.Second
	// shortCall is the deadline of some calls, at the most, and most of these have
	// far less: some are given up before they are sent, and some after.
	shortCall  = 4 * time.Millisecond
	shortEvery = 25
	// minAcknowledged is the part of the operations that have to succeed for a
	// history to be worth its name, in percent.
	minAcknowledged = 75
	// checkTimeout bounds the check of one group, which takes milliseconds.
	checkTimeout = time.Minute
)

// `make linear` runs it for long.
func TestHistoryThroughFaultsIsLinearizable(t *testing.T) {
	t.Parallel()
	seed := drawSeed(t)
	batched := func(c *etcd.Config) *etcd.Config {
		return c.WithEncryption(testKey).WithBatching(etcd.WithBatchInFlight(1))
	}
	for _, m := range append(slices.Clone(modes), mode{"batched", batched}) {
		if m.name != "plain" && m.name != "encrypted" && m.name != "batched" {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			h := newHistory(prefix(t), *linearOperations)
			var clients []*etcd.Client
			for range historyClients {
				clients = append(clients, client(t, m.set(c.config())))
			}
			began := time.Now()
			n := startNemesis(c, seed)
			t.Cleanup(func() { n.logIfFailed(t) })
			var workers sync.WaitGroup
			for i := range historyWorkers {
				workers.Go(func() {
					w := &worker{
						t: t, id: i, history: h, client: clients[i%historyClients],
						random: rand.New(rand.NewPCG(seed, uint64(i+1))),
					}
					for !t.Failed() && (!h.complete() || !n.hasDealt()) {
						w.work()
					}
				})
			}
			workers.Wait()
			took := time.Since(began)
			n.stop()
			t.Logf("%d faults, %d groups of keys, %v\n%s", len(n.log), len(h.groups), took.Round(time.Millisecond), h.ledger.table())
			sum := h.ledger.sum()
			require.Greater(t, 100*sum.acknowledged, minAcknowledged*(sum.acknowledged+sum.unknown+sum.refused))
			require.Positive(t, sum.unknown)
			require.Positive(t, sum.refused)

			c.leader()
			direct := client(t, m.set(etcd.DefaultConfig().WithEndpoints(c.addrs()...)))
			require.Empty(t, strings.Join(h.ledger.contradictions(readStoreLog(t, direct, h.prefix)), "\n"))
			h.check(t)
		})
	}
}

// never is the time at which an operation of unknown outcome ends.
const never = int64(1) << 62

// arenaSize is the number of groups in use at one time: few, so that workers meet.
// groupOperations and groupUnknown retire a group, as the time to check it grows
// with its length, and with what is open about it by a power.
const (
	arenaSize       = 4
	groupOperations = 150
	groupUnknown    = 6
)

// history is what many workers did and saw.
type history struct {
	prefix string
	began  time.Time
	want   int64
	values atomic.Int64 // that were given out
	ledger *ledger

	mu     sync.Mutex
	begun  int64
	arena  [arenaSize]*group
	groups []*group
}

// group is a few keys, and what was done with them.
type group struct {
	number int
	prefix string
	keys   [groupSize]string

	mu         sync.Mutex
	begun      int
	unknown    int
	latest     registers // what was last seen, to have swaps succeed
	operations []porcupine.Operation
}

func newHistory(prefix string, want int64) *history {
	return &history{prefix: prefix, began: time.Now(), want: want, ledger: newLedger()}
}

// complete reports whether as many operations have begun as are wanted.
func (h *history) complete() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.begun >= h.want
}

// next returns the group for an operation in a place of the arena.
func (h *history) next(place int) *group {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun++
	if h.arena[place] == nil || !h.arena[place].begin() {
		g := &group{number: len(h.groups), begun: 1, prefix: fmt.Sprintf("%s%d/", h.prefix, len(h.groups))}
		for i := range g.keys {
			g.keys[i] = fmt.Sprint(g.prefix, i)
		}
		h.arena[place] = g
		h.groups = append(h.groups, g)
	}
	return h.arena[place]
}

// begin reports whether another operation may be done with the group.
func (g *group) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun++
	return g.begun <= groupOperations && g.unknown < groupUnknown
}

// value returns what a key was last seen to hold.
func (g *group) value(i int) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.latest[i]
}

func (g *group) record(op porcupine.Operation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.operations = append(g.operations, op)
	s, o := op.Input.(step), op.Output.(outcome)
	if o.unknown {
		g.unknown++
		return
	}
	for i := range groupSize {
		switch {
		case o.applied && s.write[i] != untouched:
			g.latest[i] = s.write[i]
		case o.applied && s.expect[i] != untouched:
			g.latest[i] = s.expect[i]
		}
	}
}

// check requires each group to be linearizable.
func (h *history) check(t *testing.T) {
	t.Helper()
	began, slowest := time.Now(), time.Duration(0)
	for _, g := range h.groups {
		beganGroup := time.Now()
		result := porcupine.CheckOperationsTimeout(registersModel, g.operations, checkTimeout)
		slowest = max(slowest, time.Since(beganGroup))
		if result != porcupine.Ok {
			g.visualize(t)
		}
		require.Equal(t, porcupine.Ok, result, "group %d", g.number)
	}
	t.Logf("checked in %v, the slowest group in %v", time.Since(began).Round(time.Millisecond), slowest.Round(time.Millisecond))
}

// visualize leaves a drawing of the group behind.
func (g *group) visualize(t *testing.T) {
	t.Helper()
	// An outcome that stays unknown needn't be drawn to the end of time.
	last := slices.MaxFunc(g.operations, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) }).Call
	drawn := slices.Clone(g.operations)
	for i := range drawn {
		drawn[i].Return = min(drawn[i].Return, last+int64(longCall))
	}
	_, info := porcupine.CheckOperationsVerbose(registersModel, drawn, checkTimeout)
	dir, err := os.MkdirTemp("", "linear")
	require.NoError(t, err)
	path := filepath.Join(dir, "history.html")
	require.NoError(t, porcupine.VisualizePath(registersModel, info, path))
	t.Logf("group %d is drawn in %s", g.number, path)
}

// worker does one operation after the other.
type worker struct {
	t       *testing.T
	id      int
	history *history
	client  *etcd.Client
	random  *rand.Rand
}

// work does one operation and records it.
func (w *worker) work() {
	g := w.history.next(w.random.IntN(arenaSize))
	timeout := longCall
	if w.random.IntN(shortEvery) == 0 {
		timeout = time.Duration(math.Pow(w.random.Float64(), 4) * float64(shortCall))
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	call := time.Since(w.history.began)
	s, o, err := w.draw(ctx, g)
	switch {
	case err == nil:
	case etcd.MaybeApplied(err):
		o = w.settle(err)
	default:
		o = refused
	}
	end := time.Since(w.history.began)
	w.history.ledger.enter(g.number, s, o)
	if o == refused {
		return // it is as if it had never been called
	}
	op := at(int64(call), int64(end), s, o)
	op.ClientId = w.id
	g.record(op)
}

// settle returns the outcome of a write whose answer was lost, as far as it can be
// found.
func (w *worker) settle(err error) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), longCall/2)
	defer cancel()
	found, _ := w.client.Settle(ctx, err) // fails with the cluster, and is unknown then
	w.history.ledger.settled(found)
	switch found {
	case etcd.OutcomeApplied:
		return acknowledged
	case etcd.OutcomeNotApplied:
		return refused
	default:
		return lost
	}
}
