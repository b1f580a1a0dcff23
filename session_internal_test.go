package etcd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSessionIsOverWhenItsTimeIsEvenIfNobodyHasNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{ctx: context.Background(), began: time.Now()}
		s.renewed(time.Now(), 2*time.Second)
		time.Sleep(time.Second)
		s.renewed(time.Now(), 2*time.Second)
		time.Sleep(1799 * time.Millisecond)
		require.True(t, s.alive())
		time.Sleep(time.Millisecond)
		require.False(t, s.alive(), "a tenth before the lease may end")
	})
}

func TestSessionMargin(t *testing.T) {
	t.Parallel()
	require.Equal(t, 100*time.Millisecond, sessionMargin(time.Second))
	require.Equal(t, time.Second, sessionMargin(DefaultLockTTL))
	require.Equal(t, time.Second, sessionMargin(time.Hour))
}
