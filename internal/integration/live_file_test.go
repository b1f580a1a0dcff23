package integration

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFileOfTheFirstConfigurationIsTriedAgain(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	v, path := overBlockedFile(t, c, prefix(t))
	require.Error(t, v.Status().LastGood)
	require.NoError(t, os.RemoveAll(path))
	require.Eventually(t, func() bool { return v.Status().LastGood == nil }, patience, time.Millisecond)
	require.FileExists(t, path)
}
