//go:build proxies

package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/etcdtest"
)

// middlebox is a program of others that stands between clients and servers. What
// is done to it is done by one goroutine at a time.
type middlebox struct {
	t    *testing.T
	kind middleboxKind
	addr string
	conf string // the path of its configuration
	cmd  *exec.Cmd

	ended chan struct{} // closed when its output has ended

	mu      sync.Mutex
	log     []string
	changed chan struct{} // closed when log grows
}

// middleboxKind is a program and the way in which it hands bytes on.
type middleboxKind struct {
	name string
	// configure returns the configuration for an address, servers behind it, and
	// the settings of a test.
	configure func(dir, addr string, servers []string, set settings) string
	command   func(conf string) *exec.Cmd
	reload    syscall.Signal
	worker    *regexp.Regexp // is logged once a worker has taken over
	former    *regexp.Regexp // is logged when a worker has ended
}

// settings are lines of configuration that take the place of the usual ones.
type settings struct {
	global  string // of the whole program
	server  string // of what clients come to
	servers string // of what stands behind
}

// The usual settings are those of docs/proxies.md: nothing there ends a stream or
// a connection that is healthy.
var (
	haproxyTCP = middleboxKind{
		name: "haproxy tcp",
		configure: func(_, addr string, servers []string, set settings) string {
			return haproxyConfig("tcp", "", addr, servers, set)
		},
		command: haproxyCommand, reload: syscall.SIGUSR2, worker: haproxyWorker, former: haproxyFormer,
	}
	haproxyHTTP2 = middleboxKind{
		name: "haproxy h2",
		configure: func(_, addr string, servers []string, set settings) string {
			return haproxyConfig("http", "proto h2", addr, servers, set)
		},
		command: haproxyCommand, reload: syscall.SIGUSR2, worker: haproxyWorker, former: haproxyFormer,
	}
	nginx = middleboxKind{
		name:      "nginx",
		configure: nginxConfig,
		command: func(conf string) *exec.Cmd {
			return exec.Command("nginx", "-c", conf, "-p", filepath.Dir(conf), "-e", "stderr")
		},
		reload: syscall.SIGHUP,
		worker: regexp.MustCompile(`start worker process (\d+)`),
		former: regexp.MustCompile(`worker process (\d+) exited`),
	}
	middleboxKinds = []middleboxKind{haproxyTCP, haproxyHTTP2, nginx}

	haproxyWorker = regexp.MustCompile(`Loading success`)
	haproxyFormer = regexp.MustCompile(`Former worker \((\d+)\) exited`)
)

func haproxyCommand(conf string) *exec.Cmd { return exec.Command("haproxy", "-W", "-db", "-f", conf) }

func haproxyConfig(mode, proto, addr string, servers []string, set settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global\n  maxconn 1000\n%s\n", set.global)
	fmt.Fprintf(&b, "defaults\n  mode %s\n  timeout connect 2s\n  timeout client 1h\n  timeout server 1h\n", mode)
	fmt.Fprintf(&b, "frontend etcd\n  bind %s %s\n  default_backend members\n%s\n", addr, proto, set.server)
	fmt.Fprintf(&b, "backend members\n  balance roundrobin\n  option redispatch 1\n%s\n", set.servers)
	for i, server := range servers {
		fmt.Fprintf(&b, "  server m%d %s %s check inter 500ms fall 2 rise 1\n", i, server, proto)
	}
	return b.String()
}

func nginxConfig(dir, addr string, servers []string, set settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "daemon off;\npid %s/nginx.pid;\nerror_log stderr notice;\nworker_processes 1;\n%s\n", dir, set.global)
	b.WriteString("events { worker_connections 1000; }\nhttp {\n  access_log off;\n")
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "  %s_temp_path %s/%s;\n", kind, dir, kind)
	}
	b.WriteString("  upstream members {\n")
	for _, server := range servers {
		fmt.Fprintf(&b, "    server %s max_fails=0;\n", server)
	}
	fmt.Fprintf(&b, "    keepalive 64;\n  }\n  server {\n    listen %s http2;\n", addr)
	b.WriteString("    location / { grpc_pass grpc://members; }\n")
	usual := []string{
		"client_max_body_size 0", "client_body_timeout 1h", "grpc_read_timeout 1h", "grpc_send_timeout 1h",
		"keepalive_timeout 1h", "keepalive_requests 1000000", "http2_max_concurrent_streams 128",
	}
	for _, line := range usual {
		if name, _, _ := strings.Cut(line, " "); !strings.Contains(set.server, name) {
			fmt.Fprintf(&b, "    %s;\n", line)
		}
	}
	fmt.Fprintf(&b, "%s\n  }\n}\n", set.server)
	return b.String()
}

// newMiddlebox starts a program before servers, "ip:port", for one test.
func newMiddlebox(t *testing.T, kind middleboxKind, servers []string, set settings) *middlebox {
	t.Helper()
	const tries = 5 // another program may take the port that was free
	for range tries {
		b := &middlebox{t: t, kind: kind, addr: etcdtest.ClosedPort(t), ended: make(chan struct{}), changed: make(chan struct{})}
		dir := t.TempDir()
		b.conf = filepath.Join(dir, "conf")
		require.NoError(t, os.WriteFile(b.conf, []byte(kind.configure(dir, b.addr, servers, set)), 0o600))
		b.begin()
		t.Cleanup(b.end)
		if b.serves() {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("%s has logged:\n%s", kind.name, strings.Join(b.lines(), "\n"))
				}
			})
			return b
		}
		b.end()
		t.Logf("%s has not started:\n%s", kind.name, strings.Join(b.lines(), "\n"))
	}
	require.FailNow(t, "the program does not start", kind.name)
	return nil
}

func (b *middlebox) begin() {
	b.t.Helper()
	b.cmd = b.kind.command(b.conf)
	read, write, err := os.Pipe()
	require.NoError(b.t, err)
	b.cmd.Stdout, b.cmd.Stderr = write, write
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	require.NoError(b.t, b.cmd.Start(), "make test-proxies installs what is missing")
	require.NoError(b.t, write.Close())
	go func() {
		defer close(b.ended)
		defer read.Close()
		for lines := bufio.NewScanner(read); lines.Scan(); {
			b.mu.Lock()
			b.log = append(b.log, lines.Text())
			close(b.changed)
			b.changed = make(chan struct{})
			b.mu.Unlock()
		}
		_, _ = io.Copy(io.Discard, read)
	}()
}

// serves waits until connections are taken, and reports whether they are.
func (b *middlebox) serves() bool {
	for began := time.Now(); time.Since(began) < patience; {
		conn, err := net.Dial("tcp", b.addr)
		if err == nil {
			return conn.Close() == nil && b.await(b.kind.worker, 1, patience)
		}
		select {
		case <-b.ended:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return false
}

// end ends the program and its workers at once. It may be called again.
func (b *middlebox) end() {
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.ended:
	case <-time.After(patience):
		b.t.Errorf("%s does not end", b.kind.name)
		_ = b.cmd.Process.Kill()
	}
	_ = b.cmd.Wait() // tells of the signal
}

// lines returns what the program has logged.
func (b *middlebox) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log[:len(b.log):len(b.log)]
}

// await waits until n lines have been logged that match, at most for d, and reports
// whether there are so many.
func (b *middlebox) await(line *regexp.Regexp, n int, d time.Duration) bool {
	deadline := time.After(d)
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		if b.count(line) >= n {
			return true
		}
		select {
		case <-changed:
		case <-deadline:
			return false
		case <-b.ended:
			return b.count(line) >= n
		}
	}
}

func (b *middlebox) count(line *regexp.Regexp) int {
	n := 0
	for _, text := range b.lines() {
		if line.MatchString(text) {
			n++
		}
	}
	return n
}

// reload has the program read its configuration again, and waits until a new
// worker has taken over.
func (b *middlebox) reload() {
	b.t.Helper()
	workers := b.count(b.kind.worker)
	for began := time.Now(); time.Since(began) < patience; {
		// HAProxy ignores the signal while it still reloads.
		require.NoError(b.t, b.cmd.Process.Signal(b.kind.reload))
		if b.await(b.kind.worker, workers+1, time.Second) {
			return
		}
	}
	require.FailNow(b.t, "no new worker")
}
