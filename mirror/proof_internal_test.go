package mirror

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// A proof by reads can run ahead of events that cancel each other out.
func TestStateProvedAheadOfEventsStaysTrue(t *testing.T) {
	t.Parallel()
	m := newFed()
	defer m.Close()
	changes := m.Changes(t.Context())
	m.mu.Lock()
	m.show(m.current.Load().at(9)) // as proof does
	m.mu.Unlock()
	event := func(typ etcd.EventType, key string, revision int64) etcd.WatchResponse {
		kv := &etcd.KeyValue{Key: key, ModRevision: revision}
		if typ == etcd.EventPut {
			kv.Value = []byte("v")
		}
		return etcd.WatchResponse{Events: []*etcd.Event{{Type: typ, Kv: kv}}, Revision: revision}
	}
	see := func(revision int64, n int) {
		t.Helper()
		require.Equal(t, revision, m.Revision())
		require.Equal(t, n, m.Len())
	}
	m.apply(event(etcd.EventPut, "/p/a", 3))
	see(9, 0)
	m.apply(event(etcd.EventDelete, "/p/a", 5))
	see(9, 0)
	m.apply(event(etcd.EventPut, "/p/b", 10))
	see(10, 1)
	var types []ChangeType
	for c := range changes {
		if types = append(types, c.Type); len(types) == 3 {
			break
		}
	}
	require.Equal(t, []ChangeType{Created, Deleted, Created}, types)
}
