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

// serverVariable makes the test binary run a server instead of the tests. The
// others change that server.
const (
	serverVariable = "ETCD_INTEGRATION_SERVER"
	withFsync      = "ETCD_INTEGRATION_FSYNC"           // waits for the disk
	withoutStreams = "ETCD_INTEGRATION_WITHOUT_STREAMS" // has no range streams
)

// serveIfAsked runs an etcd server until standard input ends, if this process is
// the child of serverProcess, and reports whether it was.
func serveIfAsked() bool {
	if os.Getenv(serverVariable) == "" {
		return false
	}
	f := &streams{unsupported: os.Getenv(withoutStreams) != ""}
	opts := []etcdtest.Option{etcdtest.WithGRPCServerOptions(grpc.ChainStreamInterceptor(f.stream))}
	if os.Getenv(withFsync) != "" {
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
// counts the client's allocations alone, and returns its endpoints. The variables
// are set for it.
func serverProcess(tb testing.TB, variables ...string) []string {
	tb.Helper()
	env := []string{serverVariable + "=1"}
	for _, name := range variables {
		env = append(env, name+"=1")
	}
	return strings.Split(child(tb, env...), ",")
}

// thisProgram returns this program once more, to be started, which the variables make another
// one of.
func thisProgram(tb testing.TB, env ...string) *exec.Cmd {
	tb.Helper()
	self, err := os.Executable()
	require.NoError(tb, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// killAfter has a process killed when the test ends, should it still be there.
func killAfter(tb testing.TB, cmd *exec.Cmd) {
	tb.Helper()
	tb.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
}

// child runs this program once more, which the variables make another one of, until the
// test ends, and returns the first line that it prints.
func child(tb testing.TB, env ...string) string {
	tb.Helper()
	cmd := thisProgram(tb, env...)
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
	return strings.TrimSpace(line)
}
