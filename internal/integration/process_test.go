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
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd/etcdtest"
)

// serverVariable makes the test binary run a server instead of the tests, and
// withoutStreams one that has no range streams.
const (
	serverVariable = "ETCD_INTEGRATION_SERVER"
	withoutStreams = "ETCD_INTEGRATION_WITHOUT_STREAMS=1"
)

// serveIfAsked runs an etcd server until standard input ends, if this process is
// the child of serverProcess, and reports whether it was.
func serveIfAsked() bool {
	if os.Getenv(serverVariable) == "" {
		return false
	}
	name, value, _ := strings.Cut(withoutStreams, "=")
	f := &streams{unsupported: os.Getenv(name) == value}
	srv, err := etcdtest.Start(etcdtest.WithGRPCServerOptions(grpc.ChainStreamInterceptor(f.stream)))
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
// counts the client's allocations alone, and returns its endpoints. The variables
// are for its environment.
func serverProcess(tb testing.TB, variables ...string) []string {
	tb.Helper()
	self, err := os.Executable()
	require.NoError(tb, err)
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), serverVariable+"=1"), variables...)
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
