package etcdtest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/etcdtest"
)

func TestKeysAreReadableForTheirOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "ca")
	ca, err := etcdtest.NewCA(dir)
	require.NoError(t, err)
	certFile, keyFile, err := ca.Issue()
	require.NoError(t, err)
	require.Equal(t, dir, filepath.Dir(certFile))

	for path, mode := range map[string]os.FileMode{
		keyFile: 0o600, certFile: 0o644, ca.CertFile(): 0o644, dir: 0o700,
	} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		// The umask may take bits away, never add one.
		require.Zero(t, info.Mode().Perm()&^mode, path)
	}
	key, ok := issue(t, ca).PrivateKey.(*ecdsa.PrivateKey)
	require.True(t, ok)
	require.Equal(t, elliptic.P256(), key.Curve)
}

func TestManyMayIssueAtOnce(t *testing.T) {
	t.Parallel()
	ca, err := etcdtest.NewCA(t.TempDir())
	require.NoError(t, err)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		files = map[string]bool{}
	)
	for range 8 {
		wg.Go(func() {
			certFile, keyFile, err := ca.Issue()
			assert.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			files[certFile], files[keyFile] = true, true
		})
	}
	wg.Wait()
	require.Len(t, files, 16)
}

func TestCertificateSaysWhatWasAsked(t *testing.T) {
	t.Parallel()
	ca, err := etcdtest.NewCA(t.TempDir())
	require.NoError(t, err)
	begin := time.Now().Add(-5 * time.Minute).Truncate(time.Second).UTC()
	end := begin.Add(10 * time.Minute)
	leaf := issue(t, ca, etcdtest.CommonName("ann"), etcdtest.NotBefore(begin), etcdtest.NotAfter(end),
		etcdtest.ForClient(), etcdtest.ForServer()).Leaf
	require.Equal(t, "ann", leaf.Subject.CommonName)
	require.Equal(t, begin, leaf.NotBefore)
	require.Equal(t, end, leaf.NotAfter)
	require.Len(t, leaf.ExtKeyUsage, 2)
	require.NoError(t, leaf.VerifyHostname("localhost"))

	require.Empty(t, issue(t, ca, etcdtest.ForClient()).Leaf.DNSNames)

	_, _, err = ca.Issue(etcdtest.NotBefore(end), etcdtest.NotAfter(begin))
	require.ErrorContains(t, err, "not after its begin")
	_, _, err = ca.Issue(nil)
	require.ErrorContains(t, err, "a certificate option is nil")
}

func TestDirectoryHoldsOneAuthority(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := etcdtest.NewCA(dir)
	require.NoError(t, err)
	before, err := os.ReadFile(ca.CertFile())
	require.NoError(t, err)
	_, err = etcdtest.NewCA(dir)
	require.ErrorIs(t, err, os.ErrExist)
	after, err := os.ReadFile(ca.CertFile())
	require.NoError(t, err)
	require.Equal(t, before, after)
}
