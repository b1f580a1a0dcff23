package live

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// sealing returns a client without a server, which suffices to seal.
func sealing(t *testing.T, change ...func(*etcd.Config) *etcd.Config) *etcd.Client {
	t.Helper()
	cfg := etcd.DefaultConfig().WithEndpoints("127.0.0.1:1").WithLazyConnect()
	for _, f := range change {
		cfg = f(cfg)
	}
	c, err := etcd.NewClient(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func encrypted(cfg *etcd.Config) *etcd.Config {
	return cfg.WithEncryption([]byte(strings.Repeat("k", 32)))
}

func plain(cfg *etcd.Config) *etcd.Config { return cfg }

func TestFileHoldsTheConfigurationSealed(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]func(*etcd.Config) *etcd.Config{"encrypted": encrypted, "plain": plain} {
		l := &lastGood{client: sealing(t, policy), path: filepath.Join(t.TempDir(), "last"), place: "/\xff/c/"}
		s := state{revision: 7, entries: map[string]entry{
			"\xff/c/a": {value: []byte(secretValue)}, "\xff/c/\x00\xff": {value: []byte("\x00\xff")}, "\xff/c/empty": {value: []byte{}},
		}}
		for range 2 { // it is replaced
			require.NoError(t, l.write(t.Context(), s), name)
			got, err := l.read(t.Context())
			require.NoError(t, err, name)
			require.Equal(t, s, got, name)
		}
		content, err := os.ReadFile(l.path)
		require.NoError(t, err)
		require.Equal(t, name == "plain", strings.HasPrefix(string(content), fileHead))
		if name == "encrypted" {
			require.NotContains(t, string(content), "/c/")
		}
		info, err := os.Stat(l.path)
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
		}
		files, err := os.ReadDir(filepath.Dir(l.path))
		require.NoError(t, err)
		require.Len(t, files, 1, "nothing else stays behind")
	}
}

func TestDamagedAndForeignFilesAreRefused(t *testing.T) {
	t.Parallel()
	s := state{revision: 7, entries: map[string]entry{"/c/a": {value: []byte(secretValue)}}}
	for _, policy := range []func(*etcd.Config) *etcd.Config{encrypted, plain} {
		l := &lastGood{client: sealing(t, policy), path: filepath.Join(t.TempDir(), "last"), place: "/" + "/c/"}
		refused := func(l *lastGood, why string) {
			t.Helper()
			_, err := l.read(t.Context())
			var e *LastGoodError
			require.ErrorAs(t, err, &e, why)
			require.Equal(t, "read", e.Op)
			require.Equal(t, l.path, e.Path)
			require.NotContains(t, err.Error(), secretValue)
			var d *etcd.DecodeError
			require.True(t, errors.Is(err, ErrLastGood) || errors.As(err, &d), "%s: %v", why, err)
		}
		_, err := l.read(t.Context())
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.NoError(t, l.write(t.Context(), s))
		whole, err := os.ReadFile(l.path)
		require.NoError(t, err)
		for i := 0; i < len(whole); i += 7 {
			bad := append([]byte(nil), whole...)
			bad[i] ^= 1
			require.NoError(t, os.WriteFile(l.path, bad, 0o600))
			refused(l, "flipped")
			require.NoError(t, os.WriteFile(l.path, whole[:i], 0o600))
			refused(l, "cut")
		}
		require.NoError(t, os.WriteFile(l.path, whole, 0o600))
		refused(&lastGood{client: l.client, path: l.path, place: "/" + "/other/"}, "another prefix")
		refused(&lastGood{client: l.client, path: l.path, place: "=" + "/c/"}, "a document")
		_, err = l.read(t.Context())
		require.NoError(t, err)
	}
}

func TestFileOfAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "last")
	l := &lastGood{client: sealing(t, encrypted), path: path, place: "/" + "/c/"}
	require.NoError(t, l.write(t.Context(), state{revision: 7}))
	for _, other := range []*etcd.Client{
		sealing(t, func(cfg *etcd.Config) *etcd.Config { return cfg.WithEncryption([]byte(strings.Repeat("o", 32))) }),
		sealing(t, func(cfg *etcd.Config) *etcd.Config { return encrypted(cfg).WithNamespace("n/") }),
	} {
		_, err := (&lastGood{client: other, path: path, place: l.place}).read(t.Context())
		require.ErrorIs(t, err, ErrLastGood)
		require.NotContains(t, err.Error(), "\\x00")
	}
	_, err := (&lastGood{client: sealing(t, plain), path: path, place: l.place}).read(t.Context())
	require.ErrorIs(t, err, ErrLastGood)
	require.NoError(t, (&lastGood{client: sealing(t, plain), path: path, place: l.place}).write(t.Context(), state{}))
	_, err = l.read(t.Context())
	require.ErrorIs(t, err, etcd.ErrNotEncrypted, "a plain file doesn't stand in for an encrypted one")
}

func TestFailedWriteKeepsTheFileBefore(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	l := &lastGood{client: sealing(t, encrypted), path: filepath.Join(folder, "last"), place: "/" + "/c/"}
	s := state{revision: 7, entries: map[string]entry{}}
	require.NoError(t, l.write(t.Context(), s))
	require.NoError(t, l.client.Close())
	err := l.write(t.Context(), state{revision: 8})
	var e *LastGoodError
	require.ErrorAs(t, err, &e)
	require.Equal(t, "write", e.Op)
	require.ErrorIs(t, err, etcd.ErrClosed)
	l.client = sealing(t, encrypted)
	got, err := l.read(t.Context())
	require.NoError(t, err)
	require.Equal(t, s, got)

	l.path = filepath.Join(folder, "missing", "last")
	require.ErrorIs(t, l.write(t.Context(), s), fs.ErrNotExist)
	l.path = folder // a folder is in the way
	require.Error(t, l.write(t.Context(), s))
	files, err := os.ReadDir(filepath.Dir(folder))
	require.NoError(t, err)
	for _, f := range files {
		require.NotContains(t, f.Name(), ".tmp")
	}
}
