package integration

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// The watch is cut off: a value under a key that the process lacks has it look.
func TestUnknownKeyPromptsALookAtTheRing(t *testing.T) {
	t.Parallel()
	srv, muted, reads := mutedServer(t)
	ctx := t.Context()
	leader, lagging := created(t, srv), opened(t, srv.Endpoint())
	reader := lagging.values(t)
	muted.Store(true)
	added := leader.rotated(t)
	require.NoError(t, leader.values(t).Put(ctx, "/k", []byte("value")))
	require.NotContains(t, lagging.Keyring().IDs(), added)
	before := reads.Load()
	var reading sync.WaitGroup
	for range 20 {
		reading.Go(func() {
			value, err := reader.Get(ctx, "/k")
			assert.NoError(t, err)
			assert.Equal(t, "value", string(value))
		})
	}
	reading.Wait()
	require.LessOrEqual(t, reads.Load()-before, int64(3), "they share a look")
	require.Equal(t, added, lagging.primary(t))
	require.NoError(t, lagging.Err())
}

// Whoever can write values can invent the IDs of keys.
func TestPlantedKeyIDsDontHammerTheStoredRing(t *testing.T) {
	t.Parallel()
	srv, _, reads := mutedServer(t)
	p := created(t, srv)
	c := p.values(t)
	require.NoError(t, c.Put(t.Context(), "/k/genuine", []byte("value")))
	stored := storedBytes(t, p.client, "/k/genuine")
	const n = 1000
	kvs := map[string][]byte{}
	for i := range n {
		kvs[fmt.Sprintf("/k/%04d", i)] = fmt.Appendf(nil, "%s%016d%s", stored[:8], i, stored[24:])
	}
	require.NoError(t, p.client.BulkPut(t.Context(), kvs))
	before, began := reads.Load(), time.Now()
	got, err := c.ListWithValues(t.Context(), "/k/")
	spent := time.Since(began)
	require.ErrorIs(t, err, etcd.ErrUnknownKey)
	require.Len(t, got, 1)
	// One for each tenth of a second at most, which a busy machine may stretch.
	require.LessOrEqual(t, reads.Load()-before, 2+int64(spent/(100*time.Millisecond)))
	require.Less(t, reads.Load()-before, int64(n/10))
}
