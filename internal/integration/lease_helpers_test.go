package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// leases returns how many leases a server has.
func leases(t testing.TB, c *etcd.Client) int {
	t.Helper()
	resp, err := c.Raw().Leases(within(t, patience))
	require.NoError(t, err)
	return len(resp.Leases)
}
