package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// asSample in the environment makes the test binary be the sample, so that the
// process under test is built like the test, with the race detector if it is on.
const asSample = "BE_THE_SAMPLE"

func TestMain(m *testing.M) {
	if os.Getenv(asSample) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// process is a run of the sample. Its temporary files go to a directory of its
// own.
type process struct {
	cmd    *exec.Cmd
	temp   string
	pipe   io.ReadCloser
	stdout *bufio.Reader // of pipe
	seen   strings.Builder
	stderr bytes.Buffer
}

// start runs the sample with args in an environment of env alone.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{temp: t.TempDir()}
	p.cmd = exec.Command(self, args...)
	p.cmd.Env = append([]string{
		asSample + "=1",
		"TMPDIR=" + p.temp,
		"GOCOVERDIR=" + t.TempDir(), // without it, a binary for coverage complains
		"GORACE=atexit_sleep_ms=0",  // the race detector sleeps a second otherwise
	}, env...)
	p.cmd.Stderr = &p.stderr
	p.pipe, err = p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.stdout = bufio.NewReader(p.pipe)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil { // the test gave up on it
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

// until reads the output up to and with the first line that begins so.
func (p *process) until(t *testing.T, begin string) {
	t.Helper()
	for {
		line, err := p.stdout.ReadString('\n')
		p.seen.WriteString(line)
		require.NoError(t, err, "no line begins with %q in:\n%s%s", begin, &p.seen, &p.stderr)
		if strings.HasPrefix(line, begin) {
			return
		}
	}
}

// wait waits for the end of the process and returns its exit status, -1 if a
// signal killed it, and its whole output. No temporary file may be left then.
func (p *process) wait(t *testing.T) (status int, stdout string) {
	t.Helper()
	_, err := io.Copy(&p.seen, p.stdout)
	require.NoError(t, err)
	return p.end(t), p.seen.String()
}

// end is wait without the output.
func (p *process) end(t *testing.T) (status int) {
	t.Helper()
	_ = p.cmd.Wait() // says no more than ProcessState
	left, err := os.ReadDir(p.temp)
	require.NoError(t, err)
	require.Empty(t, left, "temporary files are left")
	return p.cmd.ProcessState.ExitCode()
}

// interrupt sends a signal and waits for the end. It returns the exit status.
func (p *process) interrupt(t *testing.T, sig os.Signal) (status int) {
	t.Helper()
	begin := time.Now()
	require.NoError(t, p.cmd.Process.Signal(sig))
	status, stdout := p.wait(t)
	require.Less(t, time.Since(begin), 2*time.Second, "the process took its time")
	require.NotContains(t, stdout, "All samples completed")
	return status
}
