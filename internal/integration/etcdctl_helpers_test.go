package integration

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"

	"github.com/blueprint-go/etcd/etcdtest"
)

// etcdctlVariable makes the test binary etcdctl instead of the tests.
const etcdctlVariable = "ETCD_INTEGRATION_ETCDCTL"

// beEtcdctlIfAsked does what the main function of etcdctl does (etcdctl/v3, main.go), with the
// arguments of this process, if it is the child of etcdctl, and reports whether it was.
func beEtcdctlIfAsked() bool {
	if os.Getenv(etcdctlVariable) == "" {
		return false
	}
	ctlv3.MustStart()
	return true
}

// ctl is a process of etcdctl that holds something until it is interrupted.
type ctl struct {
	cmd   *exec.Cmd
	lines chan string // that it prints; closed at its end
}

// etcdctl starts etcdctl.
func etcdctl(t testing.TB, srv *etcdtest.Server, args ...string) *ctl {
	t.Helper()
	p := &ctl{cmd: thisProgram(t, etcdctlVariable+"=1"), lines: make(chan string, 16)}
	p.cmd.Args = append(append(p.cmd.Args, "--endpoints", strings.Join(srv.Endpoints(), ",")), args...)
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() { // ends with the process
		defer close(p.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	killAfter(t, p.cmd)
	return p
}

// end interrupts etcdctl, which gives back what it holds.
func (p *ctl) end(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	for range p.lines { // all of them before Wait
	}
	require.NoError(t, p.cmd.Wait())
}
