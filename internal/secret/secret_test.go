package secret

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesAndPathsAreNotTakenForKeys(t *testing.T) {
	t.Parallel()
	for _, plain := range []string{
		"", "/etc/etcd/pki/client.key", `C:\keys\client.key`, "unix:///run/etcd.sock", "alice", "/etc/kubernetes/pki/etcd/client/private/key0",
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	} {
		require.Equal(t, plain, Shown(plain))
	}
}
