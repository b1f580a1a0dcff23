package integration

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestWatchTellsWhatItMissedWhileDisconnected(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	p, ctx := prefix(t), within(t, patience)
	w, events1 := o.c.WatchPrefix(ctx, p), 5
	for i := range events1 {
		require.NoError(t, o.direct.Put(ctx, p+"k", []byte(strconv.Itoa(i))))
	}
	position := events(t, w, events1)[events1-1].Kv.ModRevision
	o.begin()
	for i := range 5 {
		require.NoError(t, o.direct.Put(ctx, p+"k", []byte(strconv.Itoa(i))))
	}
	compacted := revisionOf(t, o.direct)
	compactAll(t, o.direct)
	o.proxy.Heal()
	last := next(t, w)
	require.ErrorIs(t, last.Err(), etcd.ErrCompacted)
	require.Equal(t, position, last.Revision, "what was delivered")
	require.Equal(t, compacted, last.CompactRevision, "what can be had")
	closes(t, w)
	require.Equal(t, "4", string(events(t, o.c.WatchPrefix(ctx, p, etcd.WithRevision(last.CompactRevision)), 1)[0].Kv.Value))
}

func TestWatchDeliversADeletionAtTheCompactedRevision(t *testing.T) {
	t.Parallel()
	srv := server(t)
	o := newOutage(t, etcd.DefaultConfig(), srv)
	p, ctx := prefix(t), within(t, patience)
	w := o.c.WatchPrefix(ctx, p)
	require.NoError(t, o.direct.Put(ctx, p+"gone", []byte("old")))
	created := events(t, w, 1)[0].Kv.ModRevision
	o.begin()
	require.NoError(t, second(o.direct.Delete(ctx, p+"gone")))
	compactAll(t, o.direct)
	require.NoError(t, o.direct.Put(ctx, p+"after", nil))
	o.proxy.Heal()
	for _, w := range []etcd.WatchChan{w, o.c.WatchPrefix(ctx, p, etcd.WithRevision(created+1))} {
		if !deletionsOutliveCompaction(t, srv) {
			require.Equal(t, p+"after", events(t, w, 1)[0].Kv.Key, "the server has forgotten it")
			continue
		}
		got := events(t, w, 2)[0]
		require.Equal(t, etcd.EventDelete, got.Type)
		require.Equal(t, created+1, got.Kv.ModRevision)
	}
}
