package etcd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// The race detector sees to it that the key is there before it is dropped.
func TestLockWhoseSessionHasEndedIsNotWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		held := newHeldKeys(&conn{cfg: &Config{}, rpc: rpc.NewConn(rpc.Params{})})
		errOver := errors.New("over")
		s := offline(t).beginSession(1, time.Now(), time.Minute, 0)
		s.end(errOver)
		c := &claim{session: s}
		c.ttl, c.lose = time.Minute, c.fail
		c.begin(held)
		<-time.After(keyCheck + 1)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(c.ctx), ErrLockLost)
		require.ErrorIs(t, context.Cause(c.ctx), errOver)
		require.Empty(t, held.keys)
		require.False(t, held.running)
	})
}
