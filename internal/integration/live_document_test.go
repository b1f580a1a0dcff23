package integration

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/live"
)

func TestDocumentIsReadUntilItsKeyIsAvailable(t *testing.T) {
	t.Parallel()
	srv := server(t)
	aead := newTestAEAD("a")
	c := client(t, config(srv).WithAEAD(etcd.KeyID{1}, aead).WithTimeout(500*time.Millisecond))
	writer := client(t, config(srv).WithAEAD(etcd.KeyID{1}, newTestAEAD("a")))
	key := prefix(t) + "document"
	require.NoError(t, writer.Put(t.Context(), key, []byte(`{"name": "one"}`)))
	v, err := live.OpenDocument[service](within(t, patience), c, key)
	require.NoError(t, err)
	t.Cleanup(v.Close)
	aead.down.Store(true)
	changed := putRevision(t, writer, key, `{"name": "two"}`)
	require.ErrorIs(t, refusedAt(t, v, changed), etcd.ErrKeyUnavailable)
	// The first read in the place of the watch fails too.
	var first error
	require.Eventually(t, func() bool { first = v.Status().Cause; return first != nil }, patience, time.Millisecond)
	require.Eventually(t, func() bool { return v.Status().Cause != first }, patience, time.Millisecond)
	aead.down.Store(false)
	served(t, v, func(s *service) bool { return s.Name == "two" })
	require.Eventually(t, func() bool { return v.Status().Err() == nil }, patience, time.Millisecond)
}

func TestFileHoldsTheDocumentThatWasJudged(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	key, path := prefix(t)+"document", filepath.Join(t.TempDir(), "last")
	open := func(opts ...live.Option) *live.Value[service] {
		t.Helper()
		v, err := live.OpenDocument[service](within(t, patience), c, key, append(opts, live.WithLastGood(path))...)
		require.NoError(t, err)
		t.Cleanup(v.Close)
		return v
	}
	require.NoError(t, c.Put(t.Context(), key, []byte(`{"name": "old"}`)))
	open().Close()
	// The one that etcd has at the start is judged late, when there is another one.
	slow := make(chan struct{})
	require.NoError(t, c.Put(t.Context(), key, []byte(`{"name": "slow"}`)))
	v := open(live.WithValidateTimeout(time.Second), live.WithValidate(func(s *service) error {
		switch s.Name {
		case "slow":
			<-slow
		case "bad":
			return errMarkedBad
		}
		return nil
	}))
	require.Equal(t, "old", v.Load().Name)
	refusedAt(t, v, putRevision(t, c, key, `{"name": "bad"}`))
	close(slow)
	require.Eventually(t, func() bool { return errors.Is(v.Err(), errMarkedBad) }, patience, time.Millisecond)
	require.Equal(t, "slow", v.Load().Name)
	v.Close()
	require.NoError(t, second(c.Delete(t.Context(), key)))
	require.Equal(t, "slow", open().Load().Name)
}
