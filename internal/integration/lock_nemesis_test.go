package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

var locksFor = flag.Duration("locks.for", 0, "how long locks are tried on a faulty cluster, at least; every fault comes once anyway")

// contest is what several workers do to one lock.
type contest struct {
	name, counter string

	mu     sync.Mutex
	holder context.Context // of whom it was given last
	token  int64

	taken, lost, fenced, unsure atomic.Int64
}

// took notes that a lock was taken. Whoever held it before must know by now that it
// doesn't any more.
func (c *contest) took(t *testing.T, l *etcd.Lock) {
	held, token := l.Context(), l.Token()
	c.mu.Lock()
	defer c.mu.Unlock()
	if held.Err() == nil { // else it was lost on the way here, and others may have had it
		assert.True(t, c.holder == nil || c.holder.Err() != nil, "%s: two hold it, by tokens %d and %d", c.name, c.token, token)
		assert.Greater(t, token, c.token, c.name)
		c.holder, c.token = held, token
	}
	c.taken.Add(1)
}

// work takes the lock for a while, again and again, and writes its token while it
// holds it.
func (c *contest) work(ctx context.Context, t *testing.T, client *etcd.Client, random *rand.Rand) {
	var l *etcd.Lock
	for ctx.Err() == nil {
		if l == nil {
			var err error
			if l, err = client.NewLock(c.name, etcd.WithLockTTL(time.Second)); err != nil {
				continue
			}
		}
		brief, cancel := context.WithTimeout(ctx, time.Duration(1+random.IntN(3000))*time.Millisecond)
		acquire := acquisitions[[]string{"lock", "lock", "try"}[random.IntN(3)]]
		acquired, err := acquire(brief, l)
		cancel()
		assert.NotErrorIs(t, err, etcd.ErrNotHeld)
		if err != nil || !acquired {
			continue
		}
		c.took(t, l)
		c.hold(ctx, t, client, l, time.Duration(random.IntN(100))*time.Millisecond)
		if random.IntN(10) == 0 {
			_ = l.Close() // its lease ends by itself if no server can be reached
			l = nil
		}
	}
	if l != nil {
		_ = l.Close()
	}
}

// hold holds the lock for a while and gives it back.
func (c *contest) hold(ctx context.Context, t *testing.T, client *etcd.Client, l *etcd.Lock, d time.Duration) {
	held := l.Context()
	bounded, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	res, err := client.Txn().If(l.Held()).Then(etcd.OpPut(c.counter, []byte(strconv.FormatInt(l.Token(), 10)))).Commit(bounded)
	switch {
	case etcd.MaybeApplied(err):
		c.unsure.Add(1)
	case err == nil && res.Succeeded:
		c.fenced.Add(1)
	case err == nil:
		assert.Error(t, held.Err(), "%s: its lease has ended on the server and not here", c.name)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-held.Done():
	case <-timer.C:
	}
	if errors.Is(context.Cause(held), etcd.ErrLockLost) {
		c.lost.Add(1)
		assert.ErrorIs(t, l.Unlock(bounded), etcd.ErrLockLost)
		return
	}
	err = l.Unlock(bounded)
	assert.NotErrorIs(t, err, etcd.ErrNotHeld)
	assert.Error(t, held.Err())
}

func TestLocksKeepTheirPromisesThroughFaults(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	seed := drawSeed(t)
	direct := client(t, etcd.DefaultConfig().WithEndpoints(cluster.addrs()...))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	// Held by clients of their own all the time: no fault lasts three quarters of this.
	var kept []*etcd.Lock
	for i := range 12 {
		l, err := client(t, cluster.config()).NewLock(fmt.Sprint("/kept/", i))
		require.NoError(t, err)
		require.NoError(t, l.Lock(ctx))
		kept = append(kept, l)
	}
	contests := []*contest{{name: "/lock/a", counter: "/counter/a"}, {name: "/lock/b", counter: "/counter/b"}}
	written := map[string]<-chan etcd.WatchResponse{}
	for _, c := range contests {
		written[c.counter] = direct.Watch(t.Context(), c.counter)
	}
	n := startNemesis(cluster, seed)
	var workers sync.WaitGroup
	for i := range 3 {
		c := client(t, cluster.config().WithTimeout(2*time.Second))
		for j, contest := range contests {
			workers.Go(func() { contest.work(ctx, t, c, rand.New(rand.NewPCG(seed, uint64(10*i+j)))) })
		}
	}
	began := time.Now()
	require.Eventually(t, func() bool { return n.hasDealt() && time.Since(began) >= *locksFor },
		*locksFor+4*time.Minute, 100*time.Millisecond)
	n.stop()
	cluster.heal()
	cluster.waitReady()
	for i, l := range kept {
		assert.NoError(t, context.Cause(l.Context()), "kept lock %d", i)
	}
	cancel()
	workers.Wait()
	n.logIfFailed(t)

	for _, c := range contests {
		t.Logf("%s: taken %d times, lost %d times, %d fenced writes, %d unsure", c.name, c.taken.Load(), c.lost.Load(), c.fenced.Load(), c.unsure.Load())
		require.Positive(t, c.taken.Load())
		// It is free at the latest when the leases have ended.
		last := newLock(t, direct, c.name)
		require.NoError(t, last.Lock(within(t, busyTimeout)))
		require.NoError(t, direct.Put(t.Context(), c.counter, []byte("end")))
		var token int64
		for done := false; !done; {
			for _, ev := range next(t, written[c.counter]).Events {
				if done = string(ev.Kv.Value) == "end"; done {
					break
				}
				now, err := strconv.ParseInt(string(ev.Kv.Value), 10, 64)
				require.NoError(t, err)
				require.GreaterOrEqual(t, now, token, "a former holder has written")
				token = now
			}
		}
	}
	for _, l := range kept {
		_ = l.Unlock(t.Context())
	}
}
