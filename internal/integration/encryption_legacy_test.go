package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestLegacyValuesOpenUnderTheirPrefixesOnly(t *testing.T) {
	t.Parallel()
	holding := &policy{t: t}
	defer holding.done()
	srv := server(t)
	p := prefix(t)
	for name, c := range map[string]*etcd.Client{
		"by its key":      client(t, config(srv).WithEncryption(testKey).WithLegacyKey(legacyKey, p+"by its key/old/")),
		"in a namespace":  client(t, config(srv).WithNamespace(p).WithEncryption(testKey).WithLegacyKey(legacyKey, "in a namespace/old/")),
		"among plaintext": client(t, config(srv).WithEncryption(testKey).WithLegacyKey(legacyKey, p+"among plaintext/old/").WithPlaintextReads("/elsewhere/")),
	} {
		namespace, at := "", p+name+"/"
		if name == "in a namespace" {
			namespace, at = p, name+"/"
		}
		for _, place := range []string{"old/", "new/"} {
			require.NoError(t, c.Put(t.Context(), at+place+"good", []byte("good")), name)
			plant(t, c, namespace+at+place+"odd", legacyValue(secret))
		}
		holding.reads(c, at+"old/", secret)
		holding.refuses(c, at+"new/", etcd.ErrNotEncrypted)

		status, err := c.EncryptionStatus(t.Context(), at)
		require.NoError(t, err)
		require.Equal(t, int64(1), status.Legacy, name)
		require.Equal(t, int64(1), status.Plaintext, name)
		report, err := c.Reencrypt(t.Context(), at)
		require.NoError(t, err)
		require.Equal(t, int64(1), report.Rewritten, name)
		require.Equal(t, int64(1), report.Undecodable, "%s: what was copied there does not become genuine", name)
	}
}
