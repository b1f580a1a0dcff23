package etcd

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSocketNamesWhatIsChecked(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	path := filepath.Join(t.TempDir(), "etcd.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	serveGRPC(t, l, serverTLS(a.issue()))

	err = requireCause(t, overTLS(a, "unixs://"+path), ErrWrongHostName)
	assert.ErrorContains(t, err, "etcd.sock")
	assert.ErrorContains(t, err, "ServerName says another name")
	requireCause(t, overTLS(a, "unixs://"+path).WithServerName("localhost"), nil)
	err = requireCause(t, overTLS(a, "unixs://"+path).WithServerName("other"), ErrWrongHostName)
	assert.NotContains(t, err.Error(), "ServerName says another name")
}

func TestSchemeOfASocketIsWrittenInLowerCase(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"Unix:///run/etcd.sock", "UNIXS:///run/etcd.sock"} {
		_, err := parseEndpoint(raw)
		require.ErrorContains(t, err, "is written in lower case")
		assert.NotContains(t, err.Error(), "none of")
	}
}
