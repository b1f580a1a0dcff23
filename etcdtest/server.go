package etcdtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// ErrClosed is returned by [Server.Restart] after [Server.Close].
var ErrClosed = errors.New("etcdtest: server closed")

// Server is an etcd server of one member on a loopback address, in this process or in a
// child process ([WithBinary]). Make one with [New] or [Start]; the zero value is not
// usable. Several goroutines may call its methods at once.
type Server struct {
	settings *settings
	addr     string // where clients are served, with its actual port
	base     string // a directory to remove on Close, or ""
	dataDir  string
	identity *identity
	binary   *binary              // nil for a server in this process
	lock     *fileutil.LockedFile // keeps other servers off dataDir

	mu     sync.Mutex // serializes starting and stopping
	member member     // nil while stopped
	closed bool
	// reserved keeps the port of a stopped server from others; nil otherwise.
	reserved io.Closer
}

// New starts a server for the test t and stops it when t is over. If that fails, it calls
// t.Fatal. The data lies in a directory of t, see [testing.TB.TempDir].
func New(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s, err := start(t.TempDir(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("stopping the server: %v", err)
		}
	})
	return s
}

// Start starts a server, for use outside tests. It returns when the server is ready. The
// caller must call [Server.Close], which also removes the temporary directory with the
// data. If Start fails, the error names every wrong option, and nothing is left behind,
// with one exception: if etcd gives up over a damaged directory set by [WithDir], some of
// its goroutines stay.
func Start(opts ...Option) (*Server, error) {
	base, err := os.MkdirTemp("", "etcdtest-")
	if err != nil {
		return nil, fmt.Errorf("etcdtest: %w", err)
	}
	s, err := start(base, opts)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(base))
	}
	s.base = base
	return s, nil
}

// start makes a server whose temporary files go to base. If that fails, it cleans up
// everything except base.
func start(base string, opts []Option) (*Server, error) {
	set, err := collect(opts)
	if err != nil {
		return nil, err
	}
	s := &Server{settings: set, addr: set.listen, dataDir: set.dir}
	if s.binary, err = findBinary(set); err != nil {
		return nil, err
	}
	if s.dataDir == "" {
		s.dataDir = filepath.Join(base, "data")
	}
	if s.identity, err = newIdentity(set, filepath.Join(base, "tls")); err != nil {
		return nil, err
	}
	_, err = os.Stat(s.dataDir)
	madeDir := errors.Is(err, os.ErrNotExist)
	if s.lock, err = lockDir(s.dataDir); err != nil {
		return nil, err
	}
	if err := s.begin(); err != nil {
		err = errors.Join(err, s.Close())
		if madeDir {
			err = errors.Join(err, os.RemoveAll(s.dataDir))
		}
		return nil, err
	}
	return s, nil
}

// begin starts the server for the first time.
func (s *Server) begin() (err error) {
	var patience time.Duration // a given port is free or not: no retries
	if anyPort(s.addr) {
		patience = portTimeout
	}
	if s.member, s.addr, err = launch(s.run, s.addr, patience); err != nil {
		return fmt.Errorf("etcdtest: start: %w", err)
	}
	return enableAuth(s.member.auth(), s.settings)
}

// run starts a member on addr, which has its actual port.
func (s *Server) run(addr string) (member, error) {
	if s.binary != nil {
		return s.binary.run(s, addr)
	}
	return runEmbedded(s.config(addr))
}

// Endpoints returns the server's only endpoint in a slice, ready for a client's
// configuration. It stays the same across a restart.
func (s *Server) Endpoints() []string { return []string{s.Endpoint()} }

// Endpoint returns the address of the server: "127.0.0.1:port", or
// "https://127.0.0.1:port" if it speaks TLS.
func (s *Server) Endpoint() string {
	if s.identity != nil {
		return "https://" + s.addr
	}
	return s.addr
}

func (s *Server) scheme() string {
	if s.identity != nil {
		return "https"
	}
	return "http"
}

// Version returns the version of etcd that runs, such as "3.7.3": that of the module that
// this package was built with, or of the program set by [WithBinary].
func (s *Server) Version() string {
	if s.binary != nil {
		return s.binary.version
	}
	return version.Version
}

// Stop stops the server at once, as if its process had been killed: connections are cut,
// and requests under way fail. Address and data are kept for [Server.Restart]. It returns
// when everything has ended; stopping a stopped server does nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	s.keepPort()
}

// keepPort reserves the port of a stopped server, which might otherwise become that of
// another test's server.
func (s *Server) keepPort() {
	if s.reserved == nil && !s.closed {
		s.reserved, _ = reserve(s.addr) // if another one is there first, Restart reports it
	}
}

func (s *Server) stop() {
	if s.member != nil {
		s.member.stop()
		s.member = nil
	}
}

// Restart starts a stopped server again, on the same address with the same data; it stops
// a running one first. It returns when the server is ready. Leases live on with their
// granted TTL, counted anew. After [Server.Close] it returns [ErrClosed]; after another
// error the server is stopped, and Restart may be tried again.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.stop()
	s.keepPort()
	m, _, err := launch(s.run, s.addr, portTimeout)
	if err != nil {
		return fmt.Errorf("etcdtest: start: %w", err)
	}
	s.member = m
	s.release()
	return nil
}

// release gives up the port of a stopped server.
func (s *Server) release() {
	if s.reserved != nil {
		_ = s.reserved.Close()
		s.reserved = nil
	}
}

// Close stops the server for good, like [Server.Stop], and removes its temporary
// directory. It returns when everything has ended; every call after the first returns
// nil.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.stop()
	s.release()
	err := s.lock.Close()
	if s.base != "" {
		err = errors.Join(err, os.RemoveAll(s.base))
	}
	if err != nil {
		return fmt.Errorf("etcdtest: close: %w", err)
	}
	return nil
}

// lockDir makes dir and locks it for one server. Without the lock a second server would
// wait forever for the database file.
func lockDir(dir string) (*fileutil.LockedFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcdtest: data directory: %w", err)
	}
	lock, err := fileutil.TryLockFile(filepath.Join(dir, "etcdtest.lock"), os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, fmt.Errorf("etcdtest: data directory %s is in use by another server", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("etcdtest: data directory: %w", err)
	}
	return lock, nil
}
