package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd"
)

// follow records the history of a cluster by a watch on one member that goes by no proxy,
// until ctx ends. Others may follow other members.
func (r *historyRun) follow(ctx context.Context, raw *clientv3.Client) {
	h := r.truth
	for ctx.Err() == nil {
		last, _ := h.last()
		// An error ends the watch of clientv3, and the next one begins after what it has told.
		watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for resp := range raw.Watch(watching, "\x00", clientv3.WithFromKey(), clientv3.WithRev(last+1)) {
			if len(resp.Events) > 0 {
				h.add(r.plain(ctx, resp.Events))
			}
		}
		cancel()
	}
}

// plain returns the events with their values as clients read them.
func (r *historyRun) plain(ctx context.Context, evs []*clientv3.Event) []*mvccpb.Event {
	out := make([]*mvccpb.Event, len(evs))
	for i, ev := range evs {
		out[i] = ev
		if ev.Type == clientv3.EventTypePut {
			value, err := r.direct.Unseal(ctx, string(ev.Kv.Key), ev.Kv.Value)
			assert.True(r.t, err == nil || ctx.Err() != nil, "%v", err)
			ev.Kv.Value = value
		}
	}
	return out
}

// reached waits until the history of revision is known, and reports whether it is.
func (h *truth) reached(ctx context.Context, revision int64) bool {
	for {
		last, grown := h.last()
		if last >= revision {
			return true
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return false
		}
	}
}

// historyRun is a cluster under faults, with writers, and readers of all kinds whose
// accounts are held against the truth.
type historyRun struct {
	t       *testing.T
	cluster *cluster
	seed    uint64
	prefix  string
	truth   *truth
	direct  *etcd.Client // goes by no proxy
	writers []*etcd.Client
	reader  *etcd.Client

	ctx     context.Context // of those that read
	reading sync.WaitGroup
	watches []*watchReader
	mirrors []*mirrorRun
	hurry   atomic.Bool // whether slow readers have to be quick

	events   int // changes that were held against the truth
	contents int // of mirrors that were
}

// Keys are in historyGroups groups of historyKeys each. Deletions of whole groups and
// leases are part of the work.
const (
	historyGroups = 20
	historyKeys   = 25
	historyWrites = 4 // clients that write at once
)

// newHistoryRun begins to record what happens to a cluster. Clients are configured by set.
func newHistoryRun(t *testing.T, c *cluster, set func(*etcd.Config) *etcd.Config) *historyRun {
	t.Helper()
	r := &historyRun{t: t, seed: drawSeed(t), cluster: c, prefix: prefix(t)}
	r.direct = client(t, set(etcd.DefaultConfig().WithEndpoints(r.cluster.addrs()...)))
	r.reader = client(t, set(r.cluster.config()).WithTimeout(time.Second).
		WithLogger(slog.New(slog.DiscardHandler))) // the interruptions are many
	for range historyWrites {
		r.writers = append(r.writers, client(t, set(r.cluster.config()).WithTimeout(2*time.Second)))
	}
	first, err := r.direct.Revision(within(t, busyTimeout))
	require.NoError(t, err)
	r.truth = newTruth(first)
	ctx, cancel := context.WithCancel(context.Background())
	r.ctx = ctx
	for _, p := range r.cluster.members {
		raw, err := clientv3.New(clientv3.Config{Endpoints: []string{p.addr}, Logger: zap.NewNop()})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, raw.Close()) })
		r.reading.Go(func() { r.follow(ctx, raw) })
	}
	t.Cleanup(func() {
		cancel()
		r.reading.Wait()
	})
	return r
}

func (r *historyRun) key(random *rand.Rand) string {
	return fmt.Sprintf("%s%02d/%02d", r.prefix, random.IntN(historyGroups), random.IntN(historyKeys))
}

// write makes one write, and notes it if it succeeded.
func (r *historyRun) write(c *etcd.Client, random *rand.Rand) {
	value := func() string { return fmt.Sprintf("%016x", random.Uint64()) }
	var result etcd.WriteResult
	keys := map[string]*string{}
	put := func(key string) []byte {
		v := value()
		keys[key] = &v
		return []byte(v)
	}
	var err error
	switch kind := random.IntN(20); {
	case kind < 3:
		key := r.key(random)
		err = c.Put(r.ctx, key, put(key), etcd.WithResult(&result))
	case kind < 5:
		key := r.key(random)
		keys[key] = nil
		_, err = c.Delete(r.ctx, key, etcd.WithResult(&result))
	case kind == 5:
		_, err = c.DeletePrefix(r.ctx, fmt.Sprintf("%s%02d/", r.prefix, random.IntN(historyGroups)), etcd.WithResult(&result))
	case kind == 6:
		err = r.writeLeased(c, random)
	default:
		txn := c.Txn()
		for range 1 + random.IntN(60) {
			key := r.key(random)
			if _, twice := keys[key]; twice {
				continue
			}
			if random.IntN(4) == 0 {
				keys[key] = nil
				txn.Then(etcd.OpDelete(key))
			} else {
				txn.Then(etcd.OpPut(key, put(key)))
			}
		}
		var done *etcd.TxnResult
		if done, err = txn.Commit(r.ctx); err == nil {
			result.Revision = done.Revision
		}
	}
	if err == nil && len(keys) > 0 {
		r.truth.acknowledged(claim{result.Revision, keys})
	}
}

// writeLeased puts keys that go together, with their lease.
func (r *historyRun) writeLeased(c *etcd.Client, random *rand.Rand) error {
	lease, err := c.Grant(r.ctx, time.Minute)
	if err != nil {
		return err
	}
	for range 5 {
		if err := c.PutWithLease(r.ctx, r.key(random), []byte("leased"), lease); err != nil {
			break
		}
	}
	return c.RevokeLease(r.ctx, lease)
}

// compact compacts up to a revision that is known now and then, until ctx ends.
func (r *historyRun) compact(ctx context.Context, random *rand.Rand) {
	for last, _ := r.truth.last(); r.truth.reached(ctx, last+20+random.Int64N(100)); last, _ = r.truth.last() {
		known, _ := r.truth.last()
		revision := known - random.Int64N([]int64{10, 300}[random.IntN(2)])
		r.truth.compacting(revision)
		trying, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := r.direct.Raw().Compact(trying, revision)
		cancel()
		if err != nil && !errors.Is(err, rpctypes.ErrCompacted) && ctx.Err() == nil {
			r.t.Logf("no compaction at %d: %v", revision, err) // the cluster is under faults
		}
	}
}

// allFaults is how long it takes, about, until each has been there once.
var allFaults = time.Duration(len(clusterFaults)) * (minFault + maxFault + minPeace + maxPeace) / 2

// round writes until n more changes are known and each fault has been there once, all
// members having been killed at first. Then it holds all readers against the truth.
func (r *historyRun) round(number, n int) {
	r.t.Helper()
	seed := r.seed + uint64(number)
	for _, p := range r.cluster.members {
		p.kill()
	}
	r.cluster.heal()
	r.cluster.waitReady()
	began, faults := time.Now(), startNemesis(r.cluster, seed)
	defer faults.logIfFailed(r.t)
	compacting, stop := context.WithCancel(r.ctx)
	var compactor, writers sync.WaitGroup
	compactor.Go(func() { r.compact(compacting, rand.New(rand.NewPCG(seed, 1))) })
	for i, c := range r.writers {
		random := rand.New(rand.NewPCG(seed, uint64(i+2)))
		writers.Go(func() {
			for r.ctx.Err() == nil && (r.truth.size() < n || !faults.hasDealt()) {
				// The writes are spread over the faults.
				if budget := int(int64(n) * int64(time.Since(began)) / int64(allFaults)); r.truth.size() < budget || faults.hasDealt() {
					r.write(c, random)
				} else {
					r.rest(random)
				}
			}
		})
	}
	writers.Wait()
	stop()
	compactor.Wait()
	faults.stop()
	r.check(number)
}

// rest lets a writer do nothing for a moment.
func (r *historyRun) rest(random *rand.Rand) {
	timer := time.NewTimer(time.Duration(1+random.IntN(10)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
}

// check waits until all readers have told what happened, and holds it against the truth.
func (r *historyRun) check(number int) {
	r.t.Helper()
	r.hurry.Store(true)
	r.truth.poke()
	put, deleted := r.mark()
	r.awaitAll(put, deleted)
	wrong := r.truth.check()
	for _, w := range r.watches {
		wrong = append(wrong, w.account.violations(r.truth)...)
	}
	wrong = append(wrong, r.checkServer()...)
	wrong = append(wrong, r.checkMirrors()...)
	wrong = append(wrong, r.resume(put, rand.New(rand.NewPCG(r.seed, uint64(number))))...)
	require.Empty(r.t, wrong)
	if number == 0 {
		r.validate()
	}
	r.events += r.truth.size()
	r.truth.forget(put)
	r.hurry.Store(false)
}

// awaitAll waits until all readers know of the changes of mark, but for those that are
// slow on purpose.
func (r *historyRun) awaitAll(put, deleted int64) {
	r.t.Helper()
	require.True(r.t, r.truth.reached(within(r.t, patience), deleted))
	for _, w := range r.watches {
		until := put
		if w.deletions {
			until = deleted
		}
		if !w.slow || r.hurry.Load() {
			r.awaits(w.account.name, until, func() int64 { return w.account.at(r.truth) })
		}
	}
	for _, run := range r.mirrors {
		for _, a := range run.accounts {
			if !a.lossy || r.hurry.Load() {
				r.awaits(a.name, put, func() int64 { return a.at(r.truth) })
			}
		}
	}
}

// awaits waits until a reader has told everything up to a revision.
func (r *historyRun) awaits(name string, until int64, at func() int64) {
	r.t.Helper()
	if !assert.Eventually(r.t, func() bool { return at() >= until }, patience, 5*time.Millisecond) {
		require.FailNow(r.t, "a reader is behind", "%s is at %d, and not at %d", name, at(), until)
	}
}

// linger waits until revision is known, or slow readers have to be quick. It reports
// whether to go on.
func (r *historyRun) linger(revision int64) bool {
	for !r.hurry.Load() {
		last, grown := r.truth.last()
		if last >= revision {
			break
		}
		select {
		case <-grown:
		case <-r.ctx.Done():
			return false
		}
	}
	return r.ctx.Err() == nil
}

// validate has etcd's validators look at what was told in the first round.
func (r *historyRun) validate() {
	r.t.Helper()
	r.truth.mu.Lock()
	defer r.truth.mu.Unlock()
	var records []*watchRecord
	for _, w := range r.watches {
		if w.record {
			records = append(records, w.records...)
			w.record, w.records = false, nil
		}
	}
	require.NotEmpty(r.t, records)
	require.NoError(r.t, validateByEtcd(r.truth, records))
}

// mark changes a key in each group, and deletes it, so that each reader has something to
// tell. It returns the revisions of both.
func (r *historyRun) mark() (put, deleted int64) {
	r.t.Helper()
	commit := func(op func(key string) etcd.Op) (revision int64) {
		require.Eventually(r.t, func() bool {
			txn := r.direct.Txn()
			for group := range historyGroups {
				txn.Then(op(fmt.Sprintf("%s%02d/00", r.prefix, group)))
			}
			done, err := txn.Commit(within(r.t, 2*time.Second)) // the member may be paused
			if err == nil {
				revision = done.Revision
			}
			return err == nil
		}, patience, 10*time.Millisecond)
		return revision
	}
	put = commit(func(key string) etcd.Op { return etcd.OpPut(key, []byte("mark")) })
	return put, commit(func(key string) etcd.Op { return etcd.OpDelete(key) })
}

// checkServer holds the truth against what the server has.
func (r *historyRun) checkServer() []string {
	r.t.Helper()
	got, err := r.direct.Range(within(r.t, busyTimeout), r.prefix)
	require.NoError(r.t, err)
	keys := map[string]holding{}
	for _, kv := range got.KVs {
		keys[kv.Key] = holdingOf(kv)
	}
	require.True(r.t, r.truth.reached(within(r.t, patience), got.Revision))
	return r.truth.checkContents("server", ofPrefix(r.prefix), []content{{got.Revision, keys}})
}

// resume holds watches that begin in the past against the truth, up to revision.
func (r *historyRun) resume(until int64, random *rand.Rand) (wrong []string) {
	r.t.Helper()
	r.truth.mu.Lock()
	oldest := max(r.truth.compacted, r.truth.base) + 1
	r.truth.mu.Unlock()
	for range 5 {
		from := oldest + random.Int64N(max(until-oldest, 1))
		a := &watchAccount{name: fmt.Sprintf("from %d", from), mine: func(fact) bool { return true }, prev: true, position: from - 1}
		ctx, cancel := context.WithCancel(within(r.t, patience))
		for resp := range r.reader.WatchPrefix(ctx, r.prefix, etcd.WithRevision(from), etcd.WithPrevKV()) {
			if !r.truth.reached(ctx, resp.Revision) || resp.Err() != nil {
				a.wrong = append(a.wrong, fmt.Sprintf("%s: ended at %d: %v", a.name, resp.Revision, resp.Err()))
				break
			}
			if a.add(r.truth, resp); a.position >= until {
				break
			}
		}
		cancel()
		if a.position < until {
			wrong = append(wrong, fmt.Sprintf("%s: ended at %d of %d", a.name, a.position, until))
		}
		wrong = append(wrong, a.wrong...)
	}
	return wrong
}

// watchReader reads one watch after the other, each from where the one before has ended.
type watchReader struct {
	account   watchAccount
	open      func(ctx context.Context, from int64) etcd.WatchChan
	deletions bool // is told deletions only
	slow      bool // reads on only when much has happened
	restless  bool // ends its watch after some responses

	record  bool // keeps what it is told, for the first round
	records []*watchRecord
}

// watch begins a reader. Its account is the truth's to guard.
func (r *historyRun) watch(w *watchReader) {
	last, _ := r.truth.last()
	w.account.position = last
	r.watches = append(r.watches, w)
	r.reading.Go(func() {
		for r.ctx.Err() == nil {
			r.readWatch(w)
		}
	})
}

func (r *historyRun) readWatch(w *watchReader) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	n, from := 0, w.account.at(r.truth)+1
	record := &watchRecord{key: r.prefix, prefix: true, from: from}
	r.truth.mu.Lock()
	w.records = append(w.records, record)
	r.truth.mu.Unlock()
	for resp := range w.open(ctx, from) {
		if !r.truth.reached(ctx, resp.Revision) {
			return
		}
		if errors.Is(resp.Err(), etcd.ErrCompacted) {
			w.account.compactedTo(r.truth, resp.Revision, resp.CompactRevision)
			return
		}
		if resp.Err() != nil {
			r.truth.mu.Lock()
			w.account.complain("ended", "%v", resp.Err())
			r.truth.mu.Unlock()
			return
		}
		if resp.State == etcd.WatchResynced {
			w.account.resynced(r.truth, resp)
		} else {
			w.account.add(r.truth, resp)
		}
		if w.record {
			r.truth.mu.Lock()
			record.responses = append(record.responses, resp)
			r.truth.mu.Unlock()
		}
		if n++; w.restless && n == 30 {
			return
		}
		if w.slow && !r.linger(resp.Revision+200) {
			return
		}
	}
}
