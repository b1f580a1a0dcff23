package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := serve(ctx)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestOnlyCallsInFlightFailWhenOneIsKilled(t *testing.T) {
	t.Setenv("ETCD_ENDPOINTS", "") // brings it back afterwards
	require.NoError(t, os.Unsetenv("ETCD_ENDPOINTS"))
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	var callers, answered, failed int
	n, err := fmt.Sscanf(out.String(), "both instances answer; one is killed\nof %d callers' calls %d were answered, and %d failed", &callers, &answered, &failed)
	require.NoError(t, err, out.String())
	require.Equal(t, 3, n)
	require.GreaterOrEqual(t, answered, 2000)
	require.LessOrEqual(t, failed, callers, "one for each caller")
}
