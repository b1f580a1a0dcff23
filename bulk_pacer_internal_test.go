package etcd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPacerKeepsToItsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := pacer{rate: 100}
		for range 5 {
			require.True(t, p.wait(t.Context(), nil, 50))
		}
		// The last 50 are sent; nobody waits for what comes after them.
		require.Equal(t, 2*time.Second, time.Since(began))
	})
}

func TestPacerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		p := pacer{rate: 1}
		require.True(t, p.wait(ctx, nil, 3600))
		require.False(t, p.wait(ctx, nil, 1))
		require.Equal(t, time.Second, time.Since(began))
	})
}

func TestPacerWithoutARateNeverWaits(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var p pacer
	require.True(t, p.wait(ended, nil, 1<<40))
	require.True(t, p.wait(ended, nil, 1))
}
