package dial

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/dial/dialtest"
	"github.com/blueprint-go/etcd/internal/errs"
)

func TestSocketNamesWhatIsChecked(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	path := filepath.Join(t.TempDir(), "etcd.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	dialtest.ServeGRPC(t, l, dialtest.ServerTLS(a.Issue()))

	err = requireCause(t, overTLS(a, "unixs://"+path), errs.ErrWrongHostName)
	assert.ErrorContains(t, err, "etcd.sock")
	assert.ErrorContains(t, err, "ServerName says another name")
	requireCause(t, named(overTLS(a, "unixs://"+path), "localhost"), nil)
	err = requireCause(t, named(overTLS(a, "unixs://"+path), "other"), errs.ErrWrongHostName)
	assert.NotContains(t, err.Error(), "ServerName says another name")
}

func TestSocketSchemeMustBeLowerCase(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"Unix:///run/etcd.sock", "UNIXS:///run/etcd.sock"} {
		_, err := ParseEndpoint(raw)
		require.ErrorContains(t, err, "is written in lower case")
		assert.NotContains(t, err.Error(), "none of")
	}
}
