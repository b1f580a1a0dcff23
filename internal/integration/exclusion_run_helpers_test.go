package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// exclusionWorkers is how many processes fight.
const exclusionWorkers = 8

// exclusionRun is a fight of processes over one thing on a cluster under faults.
type exclusionRun struct {
	t       *testing.T
	cluster *cluster
	kind    string
	rule    exclusionRule
	seed    uint64
	prefix  string
	truth   exclusionTruth
	workers []*exclusionProcess

	took  chan *exclusionProcess // unbuffered: who has just taken it, for whom waits for that
	stops int                    // of holders

	mu      sync.Mutex
	tenures []tenure // guarded by mu
}

// exclusionProcess is one that fights. It is stopped and continued by one goroutine.
type exclusionProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// newExclusionRun makes a run of a kind on a cluster of its own.
func newExclusionRun(t *testing.T, kind string, rule exclusionRule) *exclusionRun {
	t.Helper()
	r := &exclusionRun{t: t, cluster: newCluster(t), kind: kind, rule: rule, seed: drawSeed(t), prefix: prefix(t), took: make(chan *exclusionProcess)}
	r.truth.claims = map[int64]claimLife{}
	return r
}

// fight has processes fight for d at least, and until every fault was there, and notes what the
// cluster has seen.
func (r *exclusionRun) fight(d time.Duration) {
	r.t.Helper()
	watching, stopWatching := context.WithCancel(context.Background())
	end := r.prefix + "end"
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		r.follow(watching, end)
	}()
	defer func() {
		stopWatching()
		<-seen
	}()
	var reading sync.WaitGroup
	for i := range exclusionWorkers {
		r.begin(i, &reading)
	}
	n := startNemesis(r.cluster, r.seed)
	stopping, stopStopping := context.WithCancel(context.Background())
	var stopper sync.WaitGroup
	stopper.Go(func() { r.stopHolders(stopping) })
	began := time.Now()
	assert.Eventually(r.t, func() bool { return n.hasDealt() && time.Since(began) >= d }, d+4*time.Minute, 100*time.Millisecond)
	stopStopping()
	stopper.Wait()
	n.logIfFailed(r.t)
	r.cluster.heal()
	r.cluster.waitReady()
	for _, p := range r.workers {
		assert.NoError(r.t, p.stdin.Close()) // its sign to end
	}
	reading.Wait()
	for _, p := range r.workers {
		assert.NoError(r.t, p.cmd.Wait())
	}
	_, err := r.cluster.direct.Put(within(r.t, busyTimeout), end, "")
	require.NoError(r.t, err)
	select {
	case <-seen:
	case <-time.After(busyTimeout):
		assert.Fail(r.t, "the watch doesn't come to the end")
	}
}

// begin begins a process and has what it tells read.
func (r *exclusionRun) begin(worker int, reading *sync.WaitGroup) {
	r.t.Helper()
	task := exclusionTask{
		Kind: r.kind, Prefix: r.prefix, Worker: worker, Seed: r.seed,
		Endpoints: r.cluster.config().Endpoints,
	}
	asked, err := json.Marshal(task)
	require.NoError(r.t, err)
	cmd := thisProgram(r.t, exclusionVariable+"="+string(asked))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as for members
	stdin, err := cmd.StdinPipe()
	require.NoError(r.t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, cmd.Start())
	p := &exclusionProcess{cmd: cmd, stdin: stdin}
	r.workers = append(r.workers, p)
	killAfter(r.t, cmd)
	reading.Go(func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			r.told(p, lines.Bytes())
		}
	})
}

// told takes note of what a process has told.
func (r *exclusionRun) told(p *exclusionProcess, line []byte) {
	if string(line) == "took" {
		select {
		case r.took <- p:
		default:
		}
		return
	}
	var t tenure
	assert.NoError(r.t, json.Unmarshal(line, &t))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tenures = append(r.tenures, t)
}

// stopHolders stops, now and then, a process that has just taken it, for longer than its time
// to live, until ctx ends.
func (r *exclusionRun) stopHolders(ctx context.Context) {
	random := rand.New(rand.NewPCG(r.seed, exclusionWorkers))
	pause := func(least, most time.Duration) {
		timer := time.NewTimer(least + time.Duration(random.Int64N(int64(most-least))))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	for {
		pause(exclusionTTL/4, exclusionTTL)
		select {
		case p := <-r.took:
			pause(0, 50*time.Millisecond) // somewhere in its work
			assert.NoError(r.t, p.cmd.Process.Signal(syscall.SIGSTOP))
			pause(exclusionTTL*5/4, exclusionTTL*2)
			assert.NoError(r.t, p.cmd.Process.Signal(syscall.SIGCONT))
			r.stops++
		case <-ctx.Done():
			return
		}
	}
}

// follow notes the truth that watches tell, one after the other, until the key called end comes
// or ctx ends.
func (r *exclusionRun) follow(ctx context.Context, end string) {
	opened := client(r.t, etcd.DefaultConfig().WithEndpoints(r.cluster.addrs()...).WithEncryption(testKey).WithLazyConnect())
	claims := map[string]int64{}
	for next := int64(1); ctx.Err() == nil; {
		for resp := range r.cluster.direct.Watch(clientv3.WithRequireLeader(ctx), r.prefix, clientv3.WithPrefix(), clientv3.WithRev(next)) {
			for _, ev := range resp.Events {
				if string(ev.Kv.Key) == end {
					return
				}
				r.note(opened, claims, ev)
				next = ev.Kv.ModRevision + 1 // no revision has more than a response
			}
		}
	}
}

// note notes an event; claims are the create revisions of the claims that stand.
func (r *exclusionRun) note(opened *etcd.Client, claims map[string]int64, ev *clientv3.Event) {
	key, revision := string(ev.Kv.Key), ev.Kv.ModRevision
	switch {
	case key == exclusionTask{Prefix: r.prefix}.written():
		value := ev.Kv.Value
		if !strings.HasPrefix(r.kind, "concurrency.") {
			var err error
			value, err = opened.Unseal(context.Background(), key, value)
			assert.NoError(r.t, err)
		}
		token, err := strconv.ParseInt(string(value), 10, 64)
		assert.NoError(r.t, err)
		r.truth.writes = append(r.truth.writes, exclusionWrite{revision, token})
	case ev.IsCreate():
		claims[key] = revision
		r.truth.claims[revision] = claimLife{from: revision}
	case ev.Type == clientv3.EventTypeDelete:
		r.truth.claims[claims[key]] = claimLife{from: claims[key], until: revision}
	}
}

// report logs counts, and returns the overlaps and the stale writes.
func (r *exclusionRun) report(took time.Duration) (overlaps, stale []string) {
	r.t.Helper()
	overlaps, stale = r.rule.overlaps(r.tenures), r.truth.stale()
	lost, refused, unsure := 0, 0, 0
	for _, t := range r.tenures {
		if t.Lost {
			lost++
		}
		refused += t.Refused
		unsure += t.Unsure
	}
	r.t.Logf("%s, seed %d, %v: taken %d times, holders stopped %d times, told of a loss %d times; writes applied %d, refused %d, unsure %d; overlaps %d, stale writes %d",
		r.kind, r.seed, took.Round(time.Second), len(r.tenures), r.stops, lost, len(r.truth.writes), refused, unsure, len(overlaps), len(stale))
	return overlaps, stale
}
