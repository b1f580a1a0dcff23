package integration

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/etcdtest"
)

// serverVariable makes the test binary run a server instead of the tests.
const (
	serverVariable  = "ETCD_INTEGRATION_SERVER"
	serverWithFsync = "fsync" // its value for a server that waits for the disk
)

// serveIfAsked runs an etcd server until standard input ends, if this process is
// the child of serverProcess, and reports whether it was.
func serveIfAsked() bool {
	var opts []etcdtest.Option
	switch os.Getenv(serverVariable) {
	case "":
		return false
	case serverWithFsync:
		opts = append(opts, etcdtest.WithFsync())
	}
	srv, err := etcdtest.Start(opts...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(strings.Join(srv.Endpoints(), ","))
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := srv.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// serverProcess starts a server in a process of its own, so that a benchmark
// counts the client's allocations alone, and returns its endpoints.
func serverProcess(tb testing.TB) []string {
	tb.Helper()
	return startServerProcess(tb, "1")
}

// fsyncServerProcess is serverProcess with a server that waits for the disk.
func fsyncServerProcess(tb testing.TB) []string {
	tb.Helper()
	return startServerProcess(tb, serverWithFsync)
}

func startServerProcess(tb testing.TB, kind string) []string {
	tb.Helper()
	self, err := os.Executable()
	require.NoError(tb, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), serverVariable+"="+kind)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(tb, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	tb.Cleanup(func() {
		require.NoError(tb, stdin.Close()) // the child ends with its standard input
		require.NoError(tb, cmd.Wait())
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(tb, err)
	return strings.Split(strings.TrimSpace(line), ",")
}
