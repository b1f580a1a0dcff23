package integration

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// losing returns a script whose writes are carried out, unless they are dropped, and
// not answered; not even guarded ones are sent again.
func losing(dropped bool) *script {
	return &script{answer: status.Error(codes.Unknown, "injected"), writesOnly: true, refuse: dropped}
}

func requireOutcome(t *testing.T, c *etcd.Client, lost error, want etcd.Outcome, what string) {
	t.Helper()
	require.True(t, etcd.MaybeApplied(lost), "%s: %v", what, lost)
	got, err := c.Settle(t.Context(), lost)
	require.NoError(t, err, what)
	require.Equal(t, want.String(), got.String(), what)
}
