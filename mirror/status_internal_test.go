package mirror

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestEventsOfAnOutageConfirmNothing(t *testing.T) {
	t.Parallel()
	m := newFed()
	defer m.Close()
	apply := func(revision int64) time.Time {
		ev := &etcd.Event{Type: etcd.EventPut, Kv: &etcd.KeyValue{Key: "/p/a", Value: []byte("v"), ModRevision: revision}}
		m.apply(etcd.WatchResponse{Events: []*etcd.Event{ev}, Revision: revision})
		return m.Status().Confirmed
	}
	m.connected()
	require.Zero(t, apply(3), "the store may be at any revision")
	m.registeredAt(1, 5)
	require.Zero(t, apply(4), "it was at 5")
	complete := apply(5)
	require.NotZero(t, complete)
	m.connected()
	m.registeredAt(1, 6) // late
	require.Equal(t, complete, apply(6))
	m.apply(etcd.WatchResponse{Revision: 7}) // progress comes when all has come
	require.True(t, m.Status().Confirmed.After(complete))
}
