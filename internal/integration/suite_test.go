package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestValuesOfAnotherSuiteAreStale(t *testing.T) {
	t.Parallel()
	srv := server(t)
	p, key := prefix(t), keyNumber(t, 1)
	plain := client(t, config(srv).WithKeyring(ringOf(t, key.WithPlainGCM())))
	extended := client(t, config(srv).WithKeyring(ringOf(t, key)))
	require.NoError(t, plain.Put(t.Context(), p+"a", []byte("a")))
	require.NoError(t, extended.Put(t.Context(), p+"b", []byte("b")))
	status, err := extended.EncryptionStatus(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, map[etcd.Suite]int64{etcd.SuiteAES256GCM: 1, etcd.SuiteXAES256GCM: 1}, status.BySuite)
	require.Equal(t, map[etcd.KeyID]int64{key.ID(): 2}, status.ByKey)
	pass := func(c *etcd.Client, suite etcd.Suite, stale int64) {
		t.Helper()
		report, err := c.Reencrypt(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, stale, report.Rewritten)
		status, err := c.EncryptionStatus(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, map[etcd.Suite]int64{suite: 2}, status.BySuite)
		values, err := extended.ListWithValues(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, map[string][]byte{p + "a": []byte("a"), p + "b": []byte("b")}, values)
	}
	pass(extended, etcd.SuiteXAES256GCM, 1)
	pass(plain, etcd.SuiteAES256GCM, 2)
	pass(plain, etcd.SuiteAES256GCM, 0)

	aead := client(t, config(srv).WithAEAD(etcd.KeyID{1}, newTestAEAD("a")))
	require.NoError(t, aead.Put(t.Context(), p+"a", []byte("a")))
	status, err = aead.EncryptionStatus(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, map[etcd.Suite]int64{etcd.SuiteAES256GCM: 1, etcd.SuiteAEAD: 1}, status.BySuite)
}
