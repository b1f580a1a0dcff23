package integration

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// What Watch documents.
const (
	sharedStreams = 4
	ownStreams    = 16
)

func TestWatchesLeaveRoomForRequestsAndRenewals(t *testing.T) {
	t.Parallel()
	const limit, watches = 100, 1000
	var streams watchStreams
	c := client(t, config(server(t, streams.option(limit))))
	p, ctx := prefix(t), within(t, 2*patience)
	lock, err := c.NewLock(p + "lock")
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Close()) }()
	require.NoError(t, lock.Lock(ctx))

	quiet := make([]etcd.WatchChan, watches)
	for i := range quiet {
		quiet[i] = c.Watch(ctx, p+strconv.Itoa(i))
	}
	require.LessOrEqual(t, streams.most.Load(), int64(sharedStreams))
	// None of these is ever read.
	for range 2 * limit {
		c.Watch(ctx, p+"big", etcd.WithPrevKV())
	}
	for i := range 12 {
		require.NoError(t, c.Put(ctx, p+"big", make([]byte, 1<<17)), i)
	}
	for i, w := range quiet {
		require.NoError(t, c.Put(ctx, p+strconv.Itoa(i), []byte(strconv.Itoa(i))))
		require.Equal(t, strconv.Itoa(i), string(events(t, w, 1)[0].Kv.Value))
	}
	require.LessOrEqual(t, streams.most.Load(), int64(sharedStreams+ownStreams))
	require.NoError(t, context.Cause(lock.Context()))
	// This goes on the stream that was there before the watches.
	id, err := c.Grant(ctx, time.Minute)
	require.NoError(t, err)
	alive, err := c.KeepAlive(ctx, id)
	require.NoError(t, err)
	require.NoError(t, next(t, alive).Err())
}

func TestSlowConsumersMissNothing(t *testing.T) {
	t.Parallel()
	var streams watchStreams
	c := client(t, config(server(t, streams.option(100))))
	p, ctx := prefix(t), within(t, 2*patience)
	const watches, changes = 2 * ownStreams, 30
	slow := make([]etcd.WatchChan, watches)
	for i := range slow {
		slow[i] = c.WatchPrefix(ctx, p)
	}
	value := make([]byte, 1<<17)
	put := func(i int) {
		copy(value, fmt.Sprintf("%08d", i))
		_, err := c.Txn().Then(etcd.OpPut(p+"a", value), etcd.OpPut(p+"b", value)).Commit(ctx)
		require.NoError(t, err)
	}
	for i := range changes {
		put(i)
	}
	require.EqualValues(t, 1, streams.most.Load(), "those who don't read need none")
	for n, w := range slow {
		for i := 0; i < changes; {
			evs := next(t, w).Events
			require.Zero(t, len(evs)%2, "a torn revision")
			for ; len(evs) > 0; evs = evs[2:] {
				require.Equal(t, fmt.Sprintf("%08d", i), string(evs[0].Kv.Value[:8]), n)
				require.Equal(t, evs[0].Kv.ModRevision, evs[1].Kv.ModRevision)
				i++
			}
		}
	}
	require.Greater(t, streams.most.Load(), int64(sharedStreams), "those who catch up had their own")
	require.LessOrEqual(t, streams.most.Load(), int64(sharedStreams+ownStreams))
	// Once they keep up they share again.
	require.Eventually(t, func() bool { return streams.open.Load() == 1 }, patience, 10*time.Millisecond)
	put(changes)
	for _, w := range slow {
		require.Equal(t, fmt.Sprintf("%08d", changes), string(events(t, w, 2)[0].Kv.Value[:8]))
	}
}

func TestStreamWithoutWatchesEnds(t *testing.T) {
	t.Parallel()
	var streams watchStreams
	c := client(t, config(server(t, streams.option(100))))
	p := prefix(t)
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		w := c.Watch(ctx, p+"k")
		require.EqualValues(t, 1, streams.open.Load())
		cancel()
		closes(t, w)
	}
	require.EqualValues(t, 1, streams.all.Load(), "one for watches that follow one another")
	require.Eventually(t, func() bool { return streams.open.Load() == 0 }, patience, time.Millisecond)
	w := c.Watch(within(t, patience), p+"k")
	require.NoError(t, c.Put(t.Context(), p+"k", []byte("v")))
	require.Equal(t, "v", string(events(t, w, 1)[0].Kv.Value))
}

func TestManyWatchesGoThroughGRPCProxy(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	c := client(t, etcd.DefaultConfig().WithEndpoints(grpcProxy(t, srv)))
	p, ctx := prefix(t), within(t, 2*patience)
	const watches = 50
	all := make([]etcd.WatchChan, watches)
	for i := range all {
		all[i] = c.Watch(ctx, p+strconv.Itoa(i), etcd.WithPrevKV())
	}
	short, cancel := context.WithCancel(ctx)
	gone := c.WatchPrefix(short, p)
	for i, w := range all {
		for _, v := range []string{"old", strconv.Itoa(i)} {
			require.NoError(t, direct.Put(ctx, p+strconv.Itoa(i), []byte(v)))
		}
		evs := events(t, w, 2)
		require.Equal(t, strconv.Itoa(i), string(evs[1].Kv.Value))
		require.Equal(t, "old", string(evs[1].PrevKv.Value))
	}
	require.Len(t, events(t, gone, 2*watches), 2*watches)
	cancel()
	closes(t, gone)
	past := events(t, c.WatchPrefix(ctx, p, etcd.WithRevision(2)), 2*watches)
	require.EqualValues(t, 2, past[0].Kv.ModRevision)
	require.NoError(t, direct.Put(ctx, p+"0", []byte("after")))
	require.Equal(t, "after", string(events(t, all[0], 1)[0].Kv.Value))
}
