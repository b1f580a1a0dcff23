package etcdtest_test

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/etcdtest"
)

func TestUnstoppedBinaryEndsWithItsProcess(t *testing.T) {
	const variable = "ETCDTEST_ABANDON_BINARY"
	if os.Getenv(variable) != "" {
		s, err := etcdtest.Start(etcd(t))
		require.NoError(t, err)
		os.Stdout.WriteString("serving at " + s.Endpoint() + "\n")
		os.Exit(0)
	}
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	child := exec.CommandContext(patient(t), self, "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), variable+"=1", "TMPDIR="+t.TempDir())
	out, err := child.Output()
	require.NoError(t, err, "%s", out)
	_, rest, found := strings.Cut(string(out), "serving at ")
	require.True(t, found, "%s", out)
	addr := strings.Fields(rest)[0]
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, 20*time.Second, 10*time.Millisecond)
}
