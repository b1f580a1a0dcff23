package integration

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

func TestMirrorServesWhatItHadAfterClose(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	require.NoError(t, c.Put(t.Context(), p+"k", []byte("v")))
	m := mirrorOf(t, c, p)
	var closers sync.WaitGroup
	for range 4 {
		closers.Go(m.Close)
	}
	closers.Wait()
	require.Equal(t, map[string]string{p + "k": "v"}, held(m))
	require.Equal(t, 1, m.Len())
	require.ErrorIs(t, m.Fresh(t.Context()), etcd.ErrClosed)
	require.ErrorIs(t, m.WaitFor(t.Context(), 1), etcd.ErrClosed)
	var last mirror.Change
	for last = range m.Changes(t.Context()) {
		require.Equal(t, mirror.Ended, last.Type)
	}
	require.ErrorIs(t, last.Err, etcd.ErrClosed)
	status := m.Status()
	require.False(t, status.Connected)
	require.ErrorIs(t, status.Cause, etcd.ErrClosed)
	require.NoError(t, c.Put(t.Context(), p+"k", []byte("later")), "the client lives on")
}

func TestCloseEndsCallsThatWait(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*etcd.Client, *mirror.Mirror){
		"mirror": func(_ *etcd.Client, m *mirror.Mirror) { m.Close() },
		"client": func(c *etcd.Client, _ *mirror.Mirror) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := client(t, config(server(t)))
			p := prefix(t)
			m := mirrorOf(t, c, p)
			waited, ended := make(chan error), make(chan mirror.Change)
			go func() { waited <- m.WaitFor(within(t, patience), 1<<40) }()
			changes := m.Changes(within(t, patience), mirror.WithExisting())
			require.NoError(t, c.Put(t.Context(), p+"k", nil))
			require.NoError(t, m.Fresh(within(t, patience)))
			go func() {
				for change := range changes {
					if change.Type == mirror.Created {
						end(c, m) // inside the loop
						continue
					}
					ended <- change
				}
				close(ended)
			}()
			last := next(t, ended)
			require.Equal(t, mirror.Ended, last.Type)
			require.ErrorIs(t, last.Err, etcd.ErrClosed)
			closes(t, ended)
			require.ErrorIs(t, next(t, waited), etcd.ErrClosed)
			require.Eventually(t, func() bool { return m.Status().Cause != nil }, patience, 1)
			require.ErrorIs(t, m.Status().Cause, etcd.ErrClosed)
			require.ErrorIs(t, m.Fresh(t.Context()), etcd.ErrClosed)
		})
	}
}
