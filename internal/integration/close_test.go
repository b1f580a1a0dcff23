package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/barrier"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// Behind what takes connections and says nothing, each request lasts as long as it may.
func TestCloseBehindASilentServerIsBounded(t *testing.T) {
	t.Parallel()
	srv := server(t)
	for name, prepare := range map[string]func(t *testing.T, c *etcd.Client) func() error{
		"queue": func(t *testing.T, c *etcd.Client) func() error {
			t.Helper()
			q, err := jobqueue.Open[string](t.Context(), c, prefix(t)+"queue")
			require.NoError(t, err)
			push(t, q, "a")
			_ = popped(t, q)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = q.Pop(context.WithoutCancel(t.Context()))
			}()
			waitsInLine(t, c, q.Name(), 1)
			return func() error {
				defer func() { <-ended }()
				return q.Close()
			}
		},
		"held barrier": func(t *testing.T, c *etcd.Client) func() error {
			t.Helper()
			b, err := barrier.New(c, prefix(t)+"barrier")
			require.NoError(t, err)
			require.NoError(t, b.Hold(t.Context()))
			return b.Close
		},
		"barrier that is entered": func(t *testing.T, c *etcd.Client) func() error {
			t.Helper()
			d, err := barrier.NewDouble(c, prefix(t)+"barrier", 2)
			require.NoError(t, err)
			entered := make(chan error, 1)
			go func() { entered <- d.Enter(context.WithoutCancel(t.Context())) }()
			require.Eventually(t, func() bool {
				n, err := c.Count(t.Context(), prefix(t)+"barrier\x01double/in/")
				return err == nil && n == 1
			}, patience, time.Millisecond)
			return func() error {
				require.NoError(t, d.Close())
				return <-entered
			}
		},
		"registration": func(t *testing.T, c *etcd.Client) func() error {
			t.Helper()
			r := registered(t, c, "s", "a")
			return func() error { return r.Close(context.WithoutCancel(t.Context())) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, proxy := cutOff(t, srv)
			end := prepare(t, c)
			proxy.Pause()
			pace, began := keepPace(t), time.Now()
			err := end()
			failed, ok := err.(*etcd.Error)
			require.True(t, ok, "%T: %v", err, err)
			require.Contains(t, []string{"close queue", "close barrier", "enter barrier", "close registration"}, failed.Op, "not the request")
			require.Less(t, time.Since(began), pace.allow(etcd.DefaultRequestTimeout*3/2))
		})
	}
}
