package integration

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
	"github.com/blueprint-go/etcd/mirror"
)

func TestMirrorTellsWhatACompactionHid(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	p := prefix(t)
	for _, key := range []string{"gone", "kept", "new"} {
		require.NoError(t, o.direct.Put(t.Context(), p+key, []byte("old")))
	}
	require.NoError(t, second(o.direct.Delete(t.Context(), p+"new")))
	m := mirrorOf(t, o.c, p)
	changes := changesOf(within(t, patience), m)
	require.Eventually(t, func() bool { return m.Status().Connected }, patience, time.Millisecond)
	o.begin()
	require.Eventually(t, func() bool { return !m.Status().Connected }, patience, time.Millisecond)
	require.Error(t, m.Status().Cause)
	since := m.Status().Since
	require.NoError(t, second(o.direct.Delete(t.Context(), p+"gone")))
	for i := range 3 {
		require.NoError(t, o.direct.Put(t.Context(), p+"new", fmt.Append(nil, i)))
	}
	compactAll(t, o.direct)
	kv, _ := m.Get(p + "gone")
	require.Equal(t, "old", string(kv.Value), "the last state is served")
	o.proxy.Heal()
	gone := next(t, changes)
	require.Equal(t, "deleted "+p+"gone: old ->  (resync)", changeText(gone))
	require.True(t, gone.More)
	created := next(t, changes)
	require.Equal(t, "created "+p+"new:  -> 2 (resync)", changeText(created))
	require.False(t, created.More)
	require.Equal(t, gone.Revision, created.Revision)
	equalsServer(t, o.c, m, p)
	var status mirror.Status
	require.Eventually(t, func() bool {
		status = m.Status()
		return status.Connected
	}, patience, time.Millisecond)
	require.EqualValues(t, 1, status.Resyncs)
	require.NoError(t, status.Cause)
	require.True(t, status.Since.After(since))
	require.NoError(t, o.direct.Put(t.Context(), p+"kept", []byte("after")))
	require.Equal(t, "updated "+p+"kept: old -> after", changeText(next(t, changes)))
}

func TestMirrorMissesNothingInAnOutage(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	p := prefix(t)
	m := mirrorOf(t, o.c, p)
	changes := changesOf(within(t, patience), m)
	for i := range 20 {
		if i%5 == 2 {
			o.begin()
		}
		require.NoError(t, o.direct.Put(t.Context(), p+"k", fmt.Append(nil, i)))
		if i%5 == 4 {
			o.proxy.Heal()
		}
	}
	for i := range 20 {
		got := next(t, changes)
		require.Equal(t, fmt.Sprint(i), string(got.New.Value))
		require.False(t, got.Resync)
	}
	require.Zero(t, m.Status().Resyncs)
	equalsServer(t, o.c, m, p)
}

// restoredMirror is a mirror whose cluster is restored to a revision long before its own.
func restoredMirror(t *testing.T, meanwhile func(*mirror.Mirror)) (c *etcd.Client, m *mirror.Mirror, change mirror.Change) {
	dir := t.TempDir()
	srv := server(t, etcdtest.WithDir(dir))
	c = client(t, config(srv))
	p := prefix(t)
	require.NoError(t, c.Put(t.Context(), p+"k", []byte("backup")))
	backup := copied(t, srv, dir)
	require.Eventually(t, func() bool { return second(c.Revision(t.Context())) == nil }, patience, time.Millisecond)
	for i := range 20 {
		require.NoError(t, c.Put(t.Context(), p+"k", fmt.Append(nil, i)))
	}
	m = mirrorOf(t, c, p)
	changes := changesOf(within(t, patience), m)
	before := m.Revision()
	meanwhile(m)
	putBack(t, srv, dir, backup)
	change = next(t, changes)
	require.Less(t, m.Revision(), before)
	require.Less(t, change.Revision, before)
	require.NotZero(t, m.Status().Resyncs)
	return c, m, change
}

func TestMirrorFollowsARestore(t *testing.T) {
	t.Parallel()
	c, m, change := restoredMirror(t, func(*mirror.Mirror) {})
	p := prefix(t)
	require.Equal(t, "updated "+p+"k: 19 -> backup (resync)", changeText(change))
	equalsServer(t, c, m, p)
	require.NoError(t, m.WaitFor(within(t, patience), putRevision(t, c, p+"k", "after")))
	require.Equal(t, map[string]string{p + "k": "after"}, held(m))
}

func TestRestoreEndsAWaitForItsRevision(t *testing.T) {
	t.Parallel()
	waited := make(chan error, 1)
	restoredMirror(t, func(m *mirror.Mirror) {
		revision := m.Revision() + 100
		go func() { waited <- m.WaitFor(within(t, patience), revision) }()
	})
	require.ErrorIs(t, next(t, waited), etcd.ErrRevisionRegressed)
}

func TestMirrorServesOnWithoutPermission(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("root"), etcdtest.WithUser("u", "p", etcdtest.Permission{Prefix: "/", Read: true, Write: true}))
	root := client(t, config(srv).WithAuth("root", "root"))
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, config(srv).WithAuth("u", "p").WithEndpoints(proxy.Endpoint()))
	p := prefix(t)
	require.NoError(t, c.Put(t.Context(), p+"k", []byte("v")))
	m := mirrorOf(t, c, p)
	require.Eventually(t, func() bool { return m.Status().Connected }, patience, time.Millisecond)
	users, err := root.Raw().UserGet(t.Context(), "u")
	require.NoError(t, err)
	_, err = root.Raw().UserRevokeRole(t.Context(), "u", users.Roles[0])
	require.NoError(t, err)
	proxy.Cut()
	require.Eventually(t, func() bool { return errors.Is(m.Status().Cause, etcd.ErrPermissionDenied) }, patience, time.Millisecond)
	require.False(t, m.Status().Connected)
	require.Equal(t, map[string]string{p + "k": "v"}, held(m))
	require.NoError(t, root.Put(t.Context(), p+"k", []byte("w")))
	_, err = root.Raw().UserGrantRole(t.Context(), "u", users.Roles[0])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return held(m)[p+"k"] == "w" }, patience, time.Millisecond)
	require.NoError(t, m.Status().Cause)
}
