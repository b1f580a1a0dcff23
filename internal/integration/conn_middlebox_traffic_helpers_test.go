//go:build proxies

package integration

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// traffic is what clients of a middlebox do all the time, and what became of it.
type traffic struct {
	t      *testing.T
	prefix string
	done   atomic.Int64 // calls that were acknowledged

	mu       sync.Mutex
	verdicts map[string]map[string]verdict // by key and value
	lost     int                           // locks that were lost
}

// verdict is what a client was told of a write.
type verdict string

const (
	toldApplied verdict = "acknowledged"
	toldUnknown verdict = "may have been applied"
	toldRefused verdict = "not applied"
)

func newTraffic(t *testing.T) *traffic {
	return &traffic{t: t, prefix: prefix(t), verdicts: map[string]map[string]verdict{}}
}

// tell records what became of a write.
func (tr *traffic) tell(key, value string, err error) {
	f := toldApplied
	switch {
	case etcd.MaybeApplied(err):
		f = toldUnknown
	case err != nil:
		f = toldRefused
	default:
		tr.done.Add(1)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.verdicts[key] == nil {
		tr.verdicts[key] = map[string]verdict{}
	}
	tr.verdicts[key][value] = f
}

// puts puts one number after the other.
func (tr *traffic) puts(ctx context.Context, c *etcd.Client, name string) {
	key := tr.prefix + "put/" + name
	for n := 1; ctx.Err() == nil; n++ {
		value := strconv.Itoa(n)
		tr.tell(key, value, c.Put(context.WithoutCancel(ctx), key, []byte(value)))
	}
}

// bulkKeys are more than a transaction has operations.
const bulkKeys = 200

// bulks puts many keys at once, one round after the other.
func (tr *traffic) bulks(ctx context.Context, c *etcd.Client, name string) {
	for n := 1; ctx.Err() == nil; n++ {
		value, values := strconv.Itoa(n), map[string][]byte{}
		for i := range bulkKeys {
			values[fmt.Sprintf("%sbulk/%s/%d", tr.prefix, name, i)] = []byte(value)
		}
		err := c.BulkPut(context.WithoutCancel(ctx), values)
		for key := range values {
			tr.tell(key, value, err)
		}
	}
}

// locked adds one to a number that a lock protects, again and again. A number that
// two have written is told by its verdict.
func (tr *traffic) locked(ctx context.Context, c *etcd.Client, name string) {
	key := tr.prefix + "locked"
	l, err := c.NewLock(tr.prefix + "lock")
	if !assert.NoError(tr.t, err) {
		return
	}
	defer func() { assert.NoError(tr.t, l.Close()) }()
	for n := 0; ctx.Err() == nil; n++ {
		if err := l.Lock(ctx); err != nil {
			continue
		}
		value := fmt.Sprint(name, " ", n)
		res, err := c.Txn().If(l.Held()).Then(etcd.OpPut(key, []byte(value))).Commit(context.WithoutCancel(ctx))
		if err == nil && !res.Succeeded {
			err = etcd.ErrLockLost
		}
		tr.tell(key, value, err)
		if l.Context().Err() != nil {
			tr.mu.Lock()
			tr.lost++
			tr.mu.Unlock()
		}
		_ = l.Unlock(context.WithoutCancel(ctx)) // one that fails gives up its lease
	}
}

// more waits until n further calls were acknowledged.
func (tr *traffic) more(n int64) {
	tr.t.Helper()
	from := tr.done.Load()
	require.Eventually(tr.t, func() bool { return tr.done.Load() >= from+n }, patience, time.Millisecond)
}

// run has traffic on clients while f runs.
func (tr *traffic) run(c *etcd.Client, others []*etcd.Client, f func()) {
	tr.t.Helper()
	ctx, stop := context.WithCancel(tr.t.Context())
	defer stop()
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	for i, c := range append(others, c) {
		name := strconv.Itoa(i)
		working.Go(func() { tr.puts(ctx, c, name) })
		working.Go(func() { tr.bulks(ctx, c, name) })
		working.Go(func() { tr.locked(ctx, c, name) })
	}
	f()
}

// requireExecutedOnce holds what the clients were told against what the server
// did: what was acknowledged was executed once, and what was not, once at most.
func (tr *traffic) requireExecutedOnce(history []*etcd.Event) {
	tr.t.Helper()
	executed := map[string]int{}
	for _, e := range history {
		executed[e.Kv.Key+"="+string(e.Kv.Value)]++
	}
	counts := map[verdict]int{}
	var wrong []string
	for key, values := range tr.verdicts {
		for value, f := range values {
			counts[f]++
			n := executed[key+"="+value]
			if f == toldApplied && n != 1 || f == toldUnknown && n > 1 || f == toldRefused && n != 0 {
				wrong = append(wrong, fmt.Sprintf("%s=%s was executed %d times, and is told to be: %s", key, value, n, f))
			}
		}
	}
	require.Positive(tr.t, counts[toldApplied])
	slices.Sort(wrong)
	require.Empty(tr.t, strings.Join(wrong, "\n"))
	tr.t.Logf("writes: %d %s, %d %s, %d %s; %d locks lost", counts[toldApplied], toldApplied, counts[toldUnknown], toldUnknown, counts[toldRefused], toldRefused, tr.lost)
}

// follow collects what a watch delivers. The function returns it once the watch has
// come to a revision.
func follow(t *testing.T, watch etcd.WatchChan) func(revision int64) []*etcd.Event {
	t.Helper()
	var mu sync.Mutex
	var seen []*etcd.Event
	var at int64
	go func() {
		for r := range watch {
			mu.Lock()
			seen, at = append(seen, r.Events...), max(at, r.Revision)
			mu.Unlock()
		}
	}()
	return func(revision int64) []*etcd.Event {
		t.Helper()
		arrived := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return at >= revision
		}
		require.Eventually(t, arrived, 2*patience, time.Millisecond, "the watch has not come to the last event")
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}
