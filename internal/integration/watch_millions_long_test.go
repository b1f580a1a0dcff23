//go:build long

package integration

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// everyKey reads changes until each of the keys that are numbered from one number to
// another has come, once and in order.
func everyKey(w etcd.WatchChan, prefix string, from, to int) error {
	n := to - from
	seen, last := make([]bool, n), int64(0)
	for r := range w {
		for _, e := range r.Events {
			i, err := strconv.Atoi(e.Kv.Key[len(prefix):])
			i -= from
			if err != nil || i < 0 || i >= len(seen) || seen[i] || e.Kv.ModRevision < last {
				return fmt.Errorf("%s came at %d after %d", e.Kv.Key, e.Kv.ModRevision, last)
			}
			seen[i], last = true, e.Kv.ModRevision
			n--
		}
		if err := r.Err(); err != nil || n == 0 {
			return err
		}
	}
	return fmt.Errorf("%d keys have not come in time", n)
}

// Two million small events as they happen, and a million of them later: a server looks
// at all of them again for each thousand revisions, which takes a time that grows with
// the square of their number. It tells what the server needs, so it is not parallel.
func TestLongMillionsOfSmallEventsArePrompt(t *testing.T) {
	child := childServer(t)
	c := client(t, etcd.DefaultConfig().WithEndpoints(child.endpoint).WithTimeout(time.Minute))
	const n = 2_000_000
	p := prefix(t)
	measure := func(name string, f func(ctx context.Context)) (took, cpu time.Duration) {
		ctx, cancel := context.WithCancel(within(t, 2*patience))
		defer cancel()
		began, used := time.Now(), child.cpu(t)
		f(ctx)
		took, cpu = time.Since(began), child.cpu(t)-used
		t.Logf("%s: %v, server CPU %v", name, took.Round(time.Millisecond), cpu.Round(time.Millisecond))
		return took, cpu
	}
	load := func(ctx context.Context, from, to int) {
		_, err := c.BulkLoad(ctx, func(yield func(string, []byte) bool) {
			for i := from; i < to; i++ {
				if !yield(fmt.Sprintf("%s%07d", p, i), []byte("v")) {
					return
				}
			}
		})
		require.NoError(t, err)
	}
	w := c.WatchPrefix(within(t, 2*patience), p)
	live := make(chan error, 1)
	go func() { live <- everyKey(w, p, 0, n) }()
	measure("first half live, etcd", func(ctx context.Context) { load(ctx, 0, n/2) })
	half, err := c.Revision(t.Context())
	require.NoError(t, err)
	measure("second half live, etcd and clientv3", func(ctx context.Context) {
		raw := c.Raw().Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		next(t, raw)
		load(ctx, n/2, n)
		countRaw(t, raw, n/2)
		require.NoError(t, <-live)
	})
	theirs, theirCPU := measure("catching up, clientv3", func(ctx context.Context) {
		countRaw(t, c.Raw().Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(half+1)), n/2)
	})
	ours, ourCPU := measure("catching up, etcd", func(ctx context.Context) {
		require.NoError(t, everyKey(c.WatchPrefix(ctx, p, etcd.WithRevision(half+1)), p, n/2, n))
	})
	require.Less(t, ours, 10*theirs+10*time.Second)
	require.Less(t, ourCPU, 3*theirCPU+5*time.Second)
}

// All keys of a prefix are deleted at once, before many watches. The server needs more
// than its own limit of time for that when the race detector watches it.
func TestLongDeletionOfManyKeysIsPrompt(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithTimeout(busyTimeout))
	p, ctx := prefix(t), within(t, 2*patience)
	const n = 100_000
	loaded(t, c, p, n)
	watches := make([]etcd.WatchChan, 20)
	for i := range watches {
		watches[i] = c.WatchPrefix(ctx, p)
	}
	began := time.Now()
	_, err := c.DeletePrefix(ctx, p)
	require.NoError(t, err)
	deletion := time.Since(began)
	for _, w := range watches {
		require.Len(t, next(t, w).Events, n)
	}
	all := time.Since(began)
	t.Logf("deleted in %v, told to %d watches in %v", deletion.Round(time.Millisecond), len(watches), all.Round(time.Millisecond))
	require.Less(t, all, 10*deletion+20*time.Second)
}
