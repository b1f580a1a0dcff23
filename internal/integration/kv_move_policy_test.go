package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestEncryptedValueIsNotMovedToPlaintextUnasked(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithNamespace("/ns").WithEncryption(testKey).WithUnencryptedPrefixes("/pub/").WithPlaintextWrites("/mig/"))
	require.NoError(t, c.Put(t.Context(), "/sec/a", []byte(secret)))
	relocations := map[string]func(ctx context.Context, from, to string, opts ...etcd.MoveOption) error{"copy": c.CopyKey, "move": c.MoveKey}
	for name, relocate := range relocations {
		for _, to := range []string{"/pub/a", "/mig/a"} {
			require.Empty(t, o.during(func() {
				require.ErrorIs(t, relocate(t.Context(), "/sec/a", to), etcd.ErrInvalidArgument, name+to)
			}))
		}
		require.NoError(t, relocate(t.Context(), "/sec/a", "/sec/"+name), name)
		require.NoError(t, c.Put(t.Context(), "/sec/a", []byte(secret)))
	}
	for i, to := range []string{"/pub/a", "/mig/a"} {
		require.NoError(t, c.CopyKey(t.Context(), "/sec/a", to, etcd.WithPlaintextTarget()))
		require.Equal(t, secret, storedBytes(t, c, "/ns"+to))
		// From there on nothing is given away: it lies in the open already.
		require.NoError(t, c.MoveKey(t.Context(), to, to+"/moved"))
		require.NoError(t, c.MoveKey(t.Context(), to+"/moved", []string{"/sec/b", "/sec/c"}[i]))
	}
}
