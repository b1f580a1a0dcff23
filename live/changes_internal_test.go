package live

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestLoopGetsTheNewestBeforeItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for range 20 { // of which chance may spare some
			v := newFed(t)
			changes := v.Changes(t.Context())
			v.put(2, "a", "1")
			v.Close()
			var told []Change[ported]
			for c := range changes {
				told = append(told, c)
			}
			require.Len(t, told, 2)
			require.Same(t, v.Load(), told[0].New)
			require.NoError(t, told[0].Err)
			require.ErrorIs(t, told[1].Err, etcd.ErrClosed)
			require.Same(t, v.Load(), told[1].New)
		}
	})
}
