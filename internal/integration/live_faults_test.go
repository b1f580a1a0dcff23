package integration

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
	"github.com/blueprint-go/etcd/live"
)

// coldClient returns a client of an endpoint that refuses it for now. It has been refused:
// on a busy machine its first request may end before the endpoint was so much as dialed.
func coldClient(t *testing.T, endpoint string) *etcd.Client {
	t.Helper()
	c := client(t, etcd.DefaultConfig().WithEndpoints(endpoint).WithEncryption(testKey).WithLazyConnect().
		WithTimeout(300*time.Millisecond))
	isRefused(t, c)
	return c
}

func TestColdStartServesTheFile(t *testing.T) {
	t.Parallel()
	for _, document := range []bool{false, true} {
		srv := server(t)
		proxy := etcdtest.NewProxy(t, srv.Endpoint())
		direct := client(t, config(srv).WithEncryption(testKey))
		p, path := prefix(t), filepath.Join(t.TempDir(), "last")
		write := func(name string) int64 {
			if document {
				return commit(t, direct, map[string]string{p: `{"name": "` + name + `"}`})
			}
			return commit(t, direct, map[string]string{p + "name": name})
		}
		open := func(c *etcd.Client) (*live.Value[service], error) {
			if document {
				return live.OpenDocument[service](within(t, patience), c, p, live.WithLastGood(path))
			}
			return live.Open[service](within(t, patience), c, p, live.WithLastGood(path))
		}
		write(secret)
		before, err := open(direct)
		require.NoError(t, err)
		require.NoError(t, before.Status().LastGood)
		second := write(secret + " second")
		served(t, before, func(s *service) bool { return s.Name == secret+" second" })
		before.Close()
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(content), secret)

		proxy.Refuse()
		proxy.Cut()
		v, err := open(coldClient(t, proxy.Endpoint()))
		require.NoError(t, err)
		defer v.Close()
		steps := stepsOf(within(t, patience), v)
		require.Equal(t, secret+" second", v.Load().Name)
		require.Equal(t, second, v.Revision())
		status := v.Status()
		require.Equal(t, live.FromFile, status.Source)
		require.False(t, status.Connected)
		require.ErrorIs(t, status.Cause, etcd.ErrConnectionRefused)
		require.ErrorContains(t, status.Err(), "from its file")
		require.True(t, status.Confirmed.IsZero())
		require.NoError(t, v.Err(), "nothing newer was refused")

		write("third")
		proxy.Heal()
		step := next(t, steps)
		require.Equal(t, secret+" second", step.Old.Name)
		require.Equal(t, "third", step.New.Name)
		require.Equal(t, []string{"Name"}, step.Fields)
		require.Eventually(t, func() bool {
			status = v.Status()
			return status.Err() == nil
		}, patience, time.Millisecond)
		require.Equal(t, live.FromEtcd, status.Source)
		require.True(t, status.Connected)
		write("fourth")
		require.Equal(t, "fourth", next(t, steps).New.Name)
	}
}

// What is in etcd when it comes back may be the same as in the file, or bad.
func TestFileStaysUntilSomethingBetterComes(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	direct := client(t, config(srv).WithEncryption(testKey))
	p, path := prefix(t), filepath.Join(t.TempDir(), "last")
	commit(t, direct, map[string]string{p + "name": "a", p + "server/port": "1"})
	liveOf[service](t, direct, p, live.WithLastGood(path)).Close()
	proxy.Refuse()
	v := liveOf[service](t, coldClient(t, proxy.Endpoint()), p, live.WithLastGood(path))
	before := v.Load()
	proxy.Heal()
	require.Eventually(t, func() bool { return v.Status().Source == live.FromEtcd }, patience, time.Millisecond)
	require.Same(t, before, v.Load(), "nothing has changed")
	v.Close()

	bad := commit(t, direct, map[string]string{p + "server/port": "x"})
	v = liveOf[service](t, direct, p, live.WithLastGood(path))
	require.Equal(t, bad, v.Err().(*live.RejectedError).Revision)
	require.Equal(t, live.FromFile, v.Status().Source)
	require.Eventually(t, func() bool { return v.Status().Connected }, patience, time.Millisecond)
	require.EqualValues(t, 1, v.Load().Server.Port)
	steps := stepsOf(within(t, patience), v)
	commit(t, direct, map[string]string{p + "server/port": "2"})
	require.Equal(t, []string{"Server.Port"}, next(t, steps).Fields)
	require.Equal(t, live.FromEtcd, v.Status().Source)
	require.NoError(t, v.Err())
}

func TestUnusableFileIsAnErrorAndEtcdCounts(t *testing.T) {
	t.Parallel()
	srv := server(t)
	up := client(t, config(srv).WithEncryption(testKey))
	down := coldClient(t, etcdtest.ClosedPort(t))
	p, path := prefix(t), filepath.Join(t.TempDir(), "last")
	commit(t, up, map[string]string{p + "name": "a"})
	open := func(c *etcd.Client, prefix string) (*live.Value[service], error) {
		return live.Open[service](within(t, patience), c, prefix, live.WithLastGood(path))
	}
	refused := func(prefix string, want error) {
		t.Helper()
		v, err := open(down, prefix)
		require.Nil(t, v)
		var file *live.LastGoodError
		require.ErrorAs(t, err, &file)
		require.ErrorIs(t, err, want)
		require.ErrorIs(t, err, etcd.ErrConnectionRefused, "why the file was needed")
	}
	refused(p, fs.ErrNotExist)
	v, err := open(up, p)
	require.NoError(t, err)
	v.Close()
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	refused(p+"other/", etcd.ErrDecrypt)
	require.NoError(t, os.WriteFile(path, []byte(flip(string(whole), len(whole)-1)), 0o600))
	refused(p, etcd.ErrDecrypt)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	refused(p, etcd.ErrNotEncrypted)

	v, err = open(up, p) // with etcd, the file doesn't matter, and is replaced
	require.NoError(t, err)
	v.Close()
	v, err = open(down, p)
	require.NoError(t, err)
	require.Equal(t, "a", v.Load().Name)
	v.Close()

	// A file that this version of the program has no use for.
	_, err = live.Open[service](within(t, patience), down, p, live.WithLastGood(path), live.WithValidate(func(*service) error { return errMarkedBad }))
	var r *live.RejectedError
	require.ErrorAs(t, err, &r)
	require.ErrorIs(t, err, errMarkedBad)
}

func TestUnwritableFileIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	v, path := overBlockedFile(t, c, p)
	var file *live.LastGoodError
	require.ErrorAs(t, v.Status().LastGood, &file)
	require.Equal(t, "write", file.Op)
	require.NoError(t, os.RemoveAll(path))
	commit(t, c, map[string]string{p + "name": "b"})
	require.Eventually(t, func() bool { return v.Status().LastGood == nil }, patience, time.Millisecond)
	require.FileExists(t, file.Path)
}

func TestCompactionDuringAnOutageHidesNothing(t *testing.T) {
	t.Parallel()
	for _, document := range []bool{false, true} {
		o := newOutage(t, etcd.DefaultConfig(), server(t))
		p := prefix(t)
		write := func(name, port string) {
			if document {
				commit(t, o.direct, map[string]string{p: `{"name": "` + name + `", "server": {"port": ` + port + `}}`})
			} else {
				commit(t, o.direct, map[string]string{p + "name": name, p + "server/port": port})
			}
		}
		write("a", "1")
		open := live.Open[service]
		if document {
			open = live.OpenDocument[service]
		}
		v, err := open(within(t, patience), o.c, p)
		require.NoError(t, err)
		defer v.Close()
		require.Eventually(t, func() bool { return v.Status().Connected }, patience, time.Millisecond)
		steps := stepsOf(within(t, patience), v)
		o.begin()
		require.Eventually(t, func() bool { return !v.Status().Connected }, patience, time.Millisecond)
		require.Error(t, v.Status().Cause)
		require.Equal(t, "a", v.Load().Name)
		write("b", "1")
		write("c", "1")
		compactAll(t, o.direct)
		o.proxy.Heal()
		step := next(t, steps)
		require.Equal(t, "c", step.New.Name)
		require.Equal(t, []string{"Name"}, step.Fields)
		require.Eventually(t, func() bool { return v.Status().Err() == nil }, patience, time.Millisecond)
		write("c", "2")
		require.Equal(t, []string{"Server.Port"}, next(t, steps).Fields)
	}
}

func TestConfigurationOutlivesItsPermission(t *testing.T) {
	t.Parallel()
	for _, document := range []bool{false, true} {
		p := prefix(t)
		permission := etcdtest.Permission{Prefix: p, Read: true}
		open, values := live.Open[service], func(name string) map[string]string { return map[string]string{p + "name": name} }
		if document { // one key suffices
			permission = etcdtest.Permission{Key: p + "doc", Read: true}
			open, values = live.OpenDocument[service], func(name string) map[string]string {
				return map[string]string{p + "doc": `{"name": "` + name + `"}`}
			}
		}
		srv := server(t, etcdtest.WithAuth(rootPassword), etcdtest.WithUser("u", "p", permission))
		root := client(t, root(srv))
		commit(t, root, values("a"))
		proxy := etcdtest.NewProxy(t, srv.Endpoint())
		c := client(t, config(srv).WithAuth("u", "p").WithEndpoints(proxy.Endpoint()))
		name := p
		if document {
			name = p + "doc"
		}
		v, err := open(within(t, patience), c, name)
		require.NoError(t, err)
		defer v.Close()
		require.Eventually(t, func() bool { return v.Status().Connected }, patience, time.Millisecond)
		user, err := root.Raw().UserGet(t.Context(), "u")
		require.NoError(t, err)
		_, err = root.Raw().UserRevokeRole(t.Context(), "u", user.Roles[0])
		require.NoError(t, err)
		proxy.Cut()
		require.Eventually(t, func() bool { return errors.Is(v.Status().Cause, etcd.ErrPermissionDenied) }, patience, time.Millisecond)
		require.ErrorIs(t, v.Status().Err(), etcd.ErrPermissionDenied)
		commit(t, root, values("b"))
		require.Equal(t, "a", v.Load().Name)
		_, err = root.Raw().UserGrantRole(t.Context(), "u", user.Roles[0])
		require.NoError(t, err)
		served(t, v, func(s *service) bool { return s.Name == "b" })
		require.Eventually(t, func() bool { return v.Status().Err() == nil }, patience, time.Millisecond)
	}
}
