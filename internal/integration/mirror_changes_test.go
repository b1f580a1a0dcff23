package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

func TestChangesTellOldAndNewOfWholeRevisions(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	p := prefix(t)
	require.NoError(t, c.Put(t.Context(), p+"a", []byte("1")))
	m := mirrorOf(t, c, p)
	changes := changesOf(within(t, patience), m)
	created := putRevision(t, other, p+"b", "2")
	got := next(t, changes)
	require.Equal(t, "created "+p+"b:  -> 2", changeText(got))
	require.Equal(t, created, got.Revision)
	require.False(t, got.More)
	_, err := other.Txn().Then(etcd.OpPut(p+"a", []byte("3")), etcd.OpDelete(p+"b"), etcd.OpPut(p+"c", []byte("4"))).Commit(t.Context())
	require.NoError(t, err)
	texts := map[string]bool{}
	for i := range 3 {
		got := next(t, changes)
		texts[changeText(got)] = true
		require.Equal(t, created+1, got.Revision)
		require.Equal(t, i < 2, got.More)
	}
	require.Equal(t, map[string]bool{
		"updated " + p + "a: 1 -> 3": true,
		"deleted " + p + "b: 2 -> ":  true,
		"created " + p + "c:  -> 4":  true,
	}, texts)
}

func TestChangesBeginAtTheirCall(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	require.NoError(t, c.Put(t.Context(), p+"before", nil))
	m := mirrorOf(t, c, p)
	changes, existing := m.Changes(within(t, patience)), m.Changes(within(t, patience), mirror.WithExisting())
	for i := range 3 {
		require.NoError(t, c.Put(t.Context(), fmt.Sprint(p, i), nil))
	}
	require.NoError(t, m.Fresh(within(t, patience)))
	n := 0
	for change := range changes {
		require.Equal(t, fmt.Sprintf("created %s%d:  -> ", p, n), changeText(change))
		if n++; n == 3 {
			break
		}
	}
	var keys []string
	for change := range existing {
		require.Equal(t, mirror.Created, change.Type)
		require.False(t, change.Resync)
		keys = append(keys, change.Key)
		if !change.More {
			break
		}
	}
	require.Equal(t, []string{p + "0", p + "1", p + "2", p + "before"}, keys)
}

func TestSlowReaderGetsTheFinalState(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	p := prefix(t)
	require.NoError(t, c.Put(t.Context(), p+"gone", []byte("old")))
	m := mirrorOf(t, c, p)
	changes := m.Changes(within(t, patience), mirror.WithChangesBuffer(1))
	for i := range 100 {
		require.NoError(t, m.WaitFor(within(t, patience), putRevision(t, other, fmt.Sprint(p, i%10), fmt.Sprint(i))))
	}
	require.NoError(t, second(other.Delete(t.Context(), p+"gone")))
	require.NoError(t, m.Fresh(within(t, patience)))
	var texts []string
	for change := range changes {
		texts = append(texts, changeText(change))
		if change.Resync && !change.More {
			break
		}
	}
	require.Equal(t, "created "+p+"0:  -> 0", texts[0], "what had been queued")
	require.Equal(t, "updated "+p+"0: 0 -> 90 (resync)", texts[1])
	require.Equal(t, "deleted "+p+"gone: old ->  (resync)", texts[len(texts)-1])
	require.Len(t, texts, 12)
}

func TestExpiryIsToldFromDeletion(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	p := prefix(t)
	m := mirrorOf(t, c, p)
	changes := changesOf(within(t, patience), m, mirror.WithExpiry())
	lives, err := c.Grant(t.Context(), time.Hour)
	require.NoError(t, err)
	ends, err := c.Grant(t.Context(), 4*time.Second)
	require.NoError(t, err)
	require.NoError(t, c.Put(t.Context(), p+"deleted", nil, etcd.WithLease(lives)))
	require.NoError(t, c.Put(t.Context(), p+"expires", nil, etcd.WithLease(ends)))
	require.NoError(t, c.Put(t.Context(), p+"plain", nil))
	require.NoError(t, second(c.Delete(t.Context(), p+"deleted")))
	require.NoError(t, second(c.Delete(t.Context(), p+"plain")))
	var texts []string
	for range 6 {
		texts = append(texts, changeText(next(t, changes)))
	}
	require.Equal(t, []string{
		"created " + p + "deleted:  -> ", "created " + p + "expires:  -> ", "created " + p + "plain:  -> ",
		"deleted " + p + "deleted:  -> ", "deleted " + p + "plain:  -> ", "deleted " + p + "expires:  ->  (expired)",
	}, texts)
}
