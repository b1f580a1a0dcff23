package mirror

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// The pauses between futile tries last up to half a minute.
func TestEndOfTheClientEndsAPause(t *testing.T) {
	t.Parallel()
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints("127.0.0.1:1").WithLazyConnect())
	require.NoError(t, err)
	m := newFed()
	defer m.Close()
	m.client = c
	rested := make(chan bool, 1)
	go func() { rested <- m.rest(time.Hour) }()
	require.NoError(t, c.Close())
	select {
	case on := <-rested:
		require.False(t, on)
	case <-time.After(time.Minute):
		require.Fail(t, "it goes on after the client")
	}
	require.False(t, m.rest(time.Hour), "a pause that begins later")
}
