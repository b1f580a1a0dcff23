package integration

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

// Some have left their loop, some never began it, and some stay inside it for good.
func TestReadersThatAreGoneDelayNobody(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	m := mirrorOf(t, c, p)
	left, leave := context.WithCancel(ctx)
	inside := make(chan struct{})
	var stuck sync.WaitGroup
	for i := range 20 {
		changes := m.Changes(left, mirror.WithChangesBuffer(1<<10))
		switch i % 4 {
		case 0: // never begun
		case 1:
			stuck.Go(func() {
				for range changes {
					return
				}
			})
		case 2:
			stuck.Go(func() {
				for range changes {
					inside <- struct{}{}
				}
			})
		case 3:
			stuck.Go(func() {
				defer func() { require.Equal(t, "left by a panic", recover()) }()
				for range changes {
					panic("left by a panic")
				}
			})
		}
	}
	quick := changesOf(ctx, m, mirror.WithChangesBuffer(1<<30))
	for i := range 200 {
		require.NoError(t, other.Put(ctx, p+"k", fmt.Appendf(nil, "%d%s", i, make([]byte, 1<<10))))
	}
	for i := range 200 {
		got := next(t, quick)
		require.Equal(t, fmt.Sprint(i), string(got.New.Value[:len(got.New.Value)-1<<10]))
		require.False(t, got.Resync)
	}
	equalsServer(t, other, m, p)
	leave()
	for range 5 {
		<-inside
	}
	stuck.Wait()
}

func TestClientClosedInDeliveryEndsChanges(t *testing.T) {
	t.Parallel()
	srv := server(t)
	other := client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	c, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	m, err := mirror.Open(ctx, c, p)
	require.NoError(t, err)
	changes, unread := m.Changes(ctx), m.Changes(ctx)
	for i := range 5 {
		require.NoError(t, other.Put(ctx, p+"k", fmt.Append(nil, i)))
	}
	require.NoError(t, m.Fresh(ctx))
	var told []string
	for change := range changes {
		told = append(told, change.Type.String())
		if len(told) == 2 {
			require.NoError(t, c.Close())
		}
		if change.Type == mirror.Ended {
			require.ErrorIs(t, change.Err, etcd.ErrClosed)
		}
	}
	require.Equal(t, mirror.Ended.String(), told[len(told)-1])
	last := mirror.Change{}
	for change := range unread {
		last = change
	}
	require.Equal(t, mirror.Ended, last.Type)
	require.ErrorIs(t, last.Err, etcd.ErrClosed)
	require.Equal(t, "4", held(m)[p+"k"], "reads go on")
	require.ErrorIs(t, m.Fresh(ctx), etcd.ErrClosed)
	require.ErrorIs(t, m.WaitFor(ctx, 1<<40), etcd.ErrClosed)
	require.Eventually(t, func() bool { return m.Status().Cause != nil }, patience, patience/10000)
	require.ErrorIs(t, m.Status().Cause, etcd.ErrClosed)
	m.Close()
}

func TestTenThousandReadersAreToldEverything(t *testing.T) {
	t.Parallel()
	const readers = 10_000
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	p, ctx := prefix(t), within(t, 2*patience)
	m := mirrorOf(t, c, p)
	var complete atomic.Int64
	var reading sync.WaitGroup
	for range readers {
		changes := m.Changes(ctx)
		reading.Go(func() {
			n := 0
			for change := range changes {
				if change.Resync || string(change.New.Value) != fmt.Sprint(n) {
					return
				}
				if n++; n == 10 {
					complete.Add(1)
					return
				}
			}
		})
	}
	for i := range 10 {
		require.NoError(t, other.Put(ctx, p+"k", fmt.Append(nil, i)))
	}
	reading.Wait()
	require.EqualValues(t, readers, complete.Load())
}

// Each watch is told of its own key, and a mirror of all of them.
func TestTenThousandWatchesShareFourStreams(t *testing.T) {
	t.Parallel()
	const watches, streamsAllowed = 10_000, 100
	var streams watchStreams
	srv := server(t, streams.option(streamsAllowed))
	c, other := client(t, config(srv).WithTimeout(busyTimeout)), client(t, config(srv).WithTimeout(busyTimeout))
	p, ctx := prefix(t), within(t, 2*patience)
	m := mirrorOf(t, c, p)
	all := make([]etcd.WatchChan, watches)
	var opening sync.WaitGroup
	for part := range 50 {
		opening.Go(func() {
			for i := part; i < watches; i += 50 {
				all[i] = c.Watch(ctx, fmt.Sprintf("%s%05d", p, i))
			}
		})
	}
	opening.Wait()
	values := make(map[string][]byte, watches)
	for i := range watches {
		values[fmt.Sprintf("%s%05d", p, i)] = fmt.Append(nil, i)
	}
	require.NoError(t, other.BulkPut(ctx, values, etcd.InChunks()))
	for i, w := range all {
		require.Equal(t, fmt.Sprint(i), string(events(t, w, 1)[0].Kv.Value))
	}
	require.NoError(t, m.Fresh(ctx))
	require.Equal(t, watches, m.Len())
	require.LessOrEqual(t, streams.most.Load(), int64(sharedStreams+ownStreams))
}
