package etcdtest_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd/etcdtest"
)

// The test executable is an etcd as well, of the version of the module, for
// tests of WithBinary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "--version" || strings.HasPrefix(os.Args[1], "--name=")) {
		etcdmain.Main(os.Args)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// connect returns a client that ends with t.
func connect(t *testing.T, cfg clientv3.Config) *clientv3.Client {
	t.Helper()
	cfg.Logger = zap.NewNop()
	cfg.DialTimeout = 20 * time.Second
	c, err := clientv3.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func clientOf(t *testing.T, s *etcdtest.Server) *clientv3.Client {
	t.Helper()
	return connect(t, clientv3.Config{Endpoints: s.Endpoints(), TLS: s.TLSConfig()})
}

// patient returns a context for calls that are to succeed.
func patient(t *testing.T) context.Context {
	t.Helper()
	return within(t, 20*time.Second)
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func put(t *testing.T, c *clientv3.Client, key, value string) {
	t.Helper()
	_, err := c.Put(patient(t), key, value)
	require.NoError(t, err)
}

func get(t *testing.T, c *clientv3.Client, key string) string {
	t.Helper()
	got, err := c.Get(patient(t), key)
	require.NoError(t, err)
	require.Len(t, got.Kvs, 1)
	return string(got.Kvs[0].Value)
}

func TestNewReturnsAServerThatServes(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	c := clientOf(t, s)
	put(t, c, "key", "value")
	require.Equal(t, "value", get(t, c, "key"))

	require.Equal(t, []string{s.Endpoint()}, s.Endpoints())
	require.Regexp(t, `^127\.0\.0\.1:\d+$`, s.Endpoint())
	require.Nil(t, s.TLSConfig())
	require.Nil(t, s.CA())
	require.Empty(t, s.CAFile()+s.ClientCertFile()+s.ClientKeyFile())
}

func TestServerTellsClientsItsRealAddress(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	c := clientOf(t, s)
	require.NoError(t, c.Sync(patient(t)))
	require.Equal(t, []string{"http://" + s.Endpoint()}, c.Endpoints())
	put(t, c, "key", "after the sync")
}

func TestServersAtOnceDoNotCollide(t *testing.T) {
	t.Parallel()
	servers := make([]*etcdtest.Server, 8)
	var wg sync.WaitGroup
	for i := range servers {
		wg.Go(func() {
			s, err := etcdtest.Start()
			if assert.NoError(t, err) {
				servers[i] = s
				t.Cleanup(func() { require.NoError(t, s.Close()) })
			}
		})
	}
	wg.Wait()
	require.False(t, t.Failed())
	for _, s := range servers {
		put(t, clientOf(t, s), "endpoint", s.Endpoint())
	}
	for _, s := range servers {
		require.Equal(t, s.Endpoint(), get(t, clientOf(t, s), "endpoint"))
	}
}

func TestCloseMayBeCalledByManyAtOnce(t *testing.T) {
	t.Parallel()
	s, err := etcdtest.Start()
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			assert.NoError(t, s.Close())
			_, err := net.Dial("tcp", s.Endpoint())
			assert.Error(t, err, "Close returned before the end")
		})
	}
	wg.Wait()
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Restart(), etcdtest.ErrClosed)
	s.Stop()
}

func TestCloseDoesNotWaitForOpenWatches(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]etcdtest.Option{
		"plaintext": nil,
		"TLS":       {etcdtest.WithTLS()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := etcdtest.Start(opts...)
			require.NoError(t, err)
			c := clientOf(t, s)
			ch := c.Watch(patient(t), "key", clientv3.WithCreatedNotify())
			require.True(t, (<-ch).Created)

			begin := time.Now()
			require.NoError(t, s.Close())
			// A stop that waits for them takes 5.2 s.
			require.Less(t, time.Since(begin), 4*time.Second)
		})
	}
}

func TestRestartKeepsAddressAndData(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	endpoint := s.Endpoint()
	c := clientOf(t, s)
	put(t, c, "key", "value")

	s.Stop()
	s.Stop() // does nothing
	_, err := net.Dial("tcp", endpoint)
	require.Error(t, err)

	require.NoError(t, s.Restart())
	require.Equal(t, endpoint, s.Endpoint())
	require.Equal(t, "value", get(t, c, "key"), "through the same client")

	require.NoError(t, s.Restart(), "of a server that runs")
	require.Equal(t, "value", get(t, c, "key"))
}

func TestRestartThatFailsMayBeTriedAgain(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	put(t, clientOf(t, s), "key", "value")
	s.Stop()

	squatter, err := net.Listen("tcp", s.Endpoint())
	require.NoError(t, err)
	require.ErrorContains(t, s.Restart(), "address already in use")
	require.NoError(t, squatter.Close())

	require.NoError(t, s.Restart())
	require.Equal(t, "value", get(t, clientOf(t, s), "key"))
}

func TestCloseRemovesTheTemporaryDirectory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := etcdtest.Start(etcdtest.WithTLS())
	require.NoError(t, err)
	require.NotEmpty(t, entries(t, os.TempDir()))
	require.NoError(t, s.Close())
	require.Empty(t, entries(t, os.TempDir()))
}

func TestStartThatFailsLeavesNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	dir := filepath.Join(t.TempDir(), "data")

	goroutines := goleak.IgnoreCurrent()
	_, err = etcdtest.Start(
		etcdtest.WithListenAddr(taken.Addr().String()),
		etcdtest.WithDir(dir),
		etcdtest.WithTLS(),
		etcdtest.WithAuth("secret"),
	)
	require.ErrorContains(t, err, "address already in use")
	require.Empty(t, entries(t, os.TempDir()))
	require.NoDirExists(t, dir)
	goleak.VerifyNone(t, goroutines)

	require.NoError(t, os.Mkdir(dir, 0o700))
	_, err = etcdtest.Start(etcdtest.WithListenAddr(taken.Addr().String()), etcdtest.WithDir(dir))
	require.ErrorContains(t, err, "address already in use")
	s, err := etcdtest.Start(etcdtest.WithDir(dir))
	require.NoError(t, err, "nothing keeps the directory")
	require.NoError(t, s.Close())
}

func entries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	e, err := os.ReadDir(dir)
	require.NoError(t, err)
	return e
}

// recorder is a test that keeps what it is told.
type recorder struct {
	testing.TB
	fatal    []any
	cleanups []func()
}

func (r *recorder) Helper()           {}
func (r *recorder) Cleanup(f func())  { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Fatal(args ...any) { r.fatal = args; runtime.Goexit() }

func TestNewFailsTheTestWithoutItsServer(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		etcdtest.New(r, etcdtest.WithMaxTxnOps(0))
	}()
	<-ended
	require.Len(t, r.fatal, 1)
	require.ErrorContains(t, r.fatal[0].(error), "WithMaxTxnOps")
	require.Empty(t, r.cleanups)
}
