package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestReadersShareWhatAWriterHasAlone(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	name, ctx := prefix(t)+"lock", within(t, patience)
	a, b := newRWLock(t, c, name), newRWLock(t, other, name)
	require.Equal(t, name, a.Name())
	require.NoError(t, a.RLock(ctx))
	require.NoError(t, b.RLock(ctx))
	require.NoError(t, a.RLock(ctx), "again")
	for _, l := range []*etcd.RWLock{a, b} {
		locked, err := l.TryLock(ctx)
		require.NoError(t, err)
		require.False(t, locked)
		require.ErrorIs(t, l.Unlock(ctx), etcd.ErrNotHeld, "it is held to read")
	}
	token := max(a.Token(), b.Token())
	require.NoError(t, a.RUnlock(ctx))
	require.NoError(t, a.RUnlock(ctx))
	require.NoError(t, b.RUnlock(ctx))

	require.NoError(t, a.Lock(ctx))
	require.Greater(t, a.Token(), token)
	for _, l := range []*etcd.RWLock{a, b} {
		for _, try := range []func(context.Context) (bool, error){l.TryLock, l.TryRLock} {
			locked, err := try(ctx)
			require.NoError(t, err)
			require.False(t, locked)
		}
		require.ErrorIs(t, l.RUnlock(ctx), etcd.ErrNotHeld)
	}
	require.NoError(t, a.Unlock(ctx))
	locked, err := b.TryRLock(ctx)
	require.NoError(t, err)
	require.True(t, locked)
	require.NoError(t, b.RUnlock(ctx))
	require.Zero(t, queue(t, c, name))
}

func TestWaitingWriterStopsNewReaders(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"lock", within(t, patience)
	first, w, late := readerOf(t, c, name), writerOf(t, c, name), readerOf(t, c, name)
	require.NoError(t, first.take(ctx))
	writing := w.taking(t, ctx, c, 2)
	require.False(t, late.tries(t, ctx))
	reading := late.taking(t, ctx, c, 3)
	require.Empty(t, writing)
	require.NoError(t, first.release(ctx))
	require.NoError(t, next(t, writing))
	require.False(t, late.tries(t, ctx))
	require.Empty(t, reading)
	require.NoError(t, w.release(ctx))
	require.NoError(t, next(t, reading))
}

func TestReadersAndWritersComeInTheirOrder(t *testing.T) {
	t.Parallel()
	srv := server(t)
	clients := []*etcd.Client{client(t, config(srv)), client(t, config(srv)), client(t, config(srv))}
	name, ctx := prefix(t)+"lock", within(t, patience)
	holder := writerOf(t, clients[0], name)
	require.NoError(t, holder.take(ctx))

	const groups, readers = 6, 3 // each group is a writer and its readers
	got := make(chan int, groups*(readers+1))
	var all sync.WaitGroup
	n := int64(1)
	wait := func(group int, w claimant) {
		all.Go(func() {
			if err := w.take(ctx); err != nil {
				t.Error(err)
				return
			}
			got <- group
			if err := w.release(ctx); err != nil {
				t.Error(err)
			}
		})
		n++
		queues(t, clients[0], name, n)
	}
	for g := range groups {
		wait(2*g, writerOf(t, clients[g%len(clients)], name))
		for r := range readers {
			wait(2*g+1, readerOf(t, clients[(g+r)%len(clients)], name))
		}
	}
	require.NoError(t, holder.release(ctx))
	all.Wait()
	for g := range groups {
		require.Equal(t, 2*g, next(t, got))
		for range readers {
			require.Equal(t, 2*g+1, next(t, got))
		}
	}
	require.Zero(t, queue(t, clients[0], name))
}

func TestWriterIsNotStarvedByReaders(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	name, ctx := prefix(t)+"lock", within(t, patience)
	readers, end := context.WithCancel(ctx)
	var crowd sync.WaitGroup
	// Each reads again at once: without a queue there would always be one.
	for range 6 {
		l := readerOf(t, other, name)
		crowd.Go(func() {
			for readers.Err() == nil {
				if err := l.take(ctx); err != nil {
					t.Error(err)
					return
				}
				if err := l.release(ctx); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	w := writerOf(t, c, name)
	for range 5 {
		require.NoError(t, w.take(ctx))
		require.NoError(t, w.release(ctx))
	}
	end()
	crowd.Wait()
}

func TestRWLockProtectsAMap(t *testing.T) {
	t.Parallel()
	srv := server(t)
	clients := []*etcd.Client{client(t, config(srv)), client(t, config(srv))}
	name, ctx := prefix(t)+"lock", within(t, 2*patience)
	shared := newRWLock(t, clients[0], name)
	const workers, rounds = 6, 20
	data := map[int]int{} // for the race detector
	var all sync.WaitGroup
	for i := range workers {
		l := shared
		if i >= 3 {
			l = newRWLock(t, clients[i%2], name)
		}
		all.Go(func() {
			for n := range rounds {
				if err := visit(ctx, l, data, i, n%3 == 0); err != nil {
					t.Errorf("worker %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
	require.Len(t, data, workers)
	require.Zero(t, queue(t, clients[0], name))
}

// visit reads a map, or writes to it.
func visit(ctx context.Context, l *etcd.RWLock, data map[int]int, i int, write bool) error {
	if !write {
		if err := l.RLock(ctx); err != nil {
			return err
		}
		_ = fmt.Sprint(data)
		return l.RUnlock(ctx)
	}
	if err := l.Lock(ctx); err != nil {
		return err
	}
	data[i]++
	return l.Unlock(ctx)
}

func TestLostWriterMustUnlockFirst(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	l, ctx := newRWLock(t, c, prefix(t)+"lock"), within(t, patience)
	require.NoError(t, l.Lock(ctx))
	held := l.Context()
	require.NoError(t, second(c.Raw().Delete(ctx, ownKey(t, c, l.Name()))))
	closes(t, held.Done())
	require.ErrorIs(t, l.Lock(ctx), etcd.ErrLockLost)
	require.ErrorIs(t, second(l.TryLock(ctx)), etcd.ErrLockLost)
	require.ErrorIs(t, l.Unlock(ctx), etcd.ErrLockKeyDeleted)
	require.NoError(t, l.Lock(ctx))
}
