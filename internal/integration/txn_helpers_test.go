package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func requireHolds(t *testing.T, c *etcd.Client, want bool, name string, conditions ...etcd.Condition) {
	t.Helper()
	res, err := c.Txn().If(conditions...).Commit(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, res.Succeeded, name)
}
