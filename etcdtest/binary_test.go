package etcdtest_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd/etcdtest"
)

// etcd is the option for the program that this executable is, see TestMain.
func etcd(t *testing.T) etcdtest.Option {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	return etcdtest.WithBinary(self)
}

func TestBinaryServesStopsAndComesBack(t *testing.T) {
	t.Parallel()
	core, entries := observer.New(zap.InfoLevel)
	s := etcdtest.New(t, etcd(t), etcdtest.WithLogger(zap.New(core)))
	require.Equal(t, version.Version, s.Version())
	require.NotZero(t, entries.FilterMessage("ready to serve client requests").Len())
	c := clientOf(t, s)
	put(t, c, "key", "value")
	require.NoError(t, c.Sync(patient(t)))
	require.Equal(t, []string{"http://" + s.Endpoint()}, c.Endpoints())

	s.Stop()
	_, err := net.Dial("tcp", s.Endpoint())
	require.Error(t, err, "Stop returned before the end")
	require.NoError(t, s.Restart())
	require.Equal(t, "value", get(t, c, "key"))
}

func TestBinaryHonoursTheOptions(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t, etcd(t), etcdtest.WithFsync(), etcdtest.WithClientCertRequired(),
		etcdtest.WithTick(100*time.Millisecond, time.Second), etcdtest.WithProgressInterval(100*time.Millisecond),
		etcdtest.WithMaxTxnOps(1), etcdtest.WithMaxRequestBytes(16<<10), etcdtest.WithQuota(1<<20),
		etcdtest.WithAuth("secret"), etcdtest.WithAuthTokenTTL(time.Second),
		etcdtest.WithUser("etcdtest", "", etcdtest.Permission{Key: "key", Read: true, Write: true}))
	c := clientOf(t, s) // comes in as the user etcdtest, by its certificate
	put(t, c, "key", "value")
	_, err := c.Put(patient(t), "other", "value")
	require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)

	root := connect(t, clientv3.Config{Endpoints: s.Endpoints(), TLS: s.TLSConfig(), Username: "root", Password: "secret"})
	_, err = root.Txn(patient(t)).Then(clientv3.OpGet("a"), clientv3.OpGet("b")).Commit()
	require.ErrorIs(t, err, rpctypes.ErrTooManyOps)
	_, err = root.Put(patient(t), "key", strings.Repeat("v", 17<<10))
	require.ErrorIs(t, err, rpctypes.ErrRequestTooLarge)
	lease, err := root.Grant(patient(t), 1)
	require.NoError(t, err)
	require.EqualValues(t, 2, lease.TTL)
	report := <-root.Watch(patient(t), "quiet", clientv3.WithProgressNotify())
	require.True(t, report.IsProgressNotify())
	for err == nil {
		_, err = root.Put(patient(t), "key", strings.Repeat("v", 15<<10))
	}
	require.ErrorIs(t, err, rpctypes.ErrNoSpace)
}

func TestUsersOfABinarySurviveInItsDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	for range 2 {
		s, err := etcdtest.Start(etcd(t), etcdtest.WithDir(dir), etcdtest.WithAuth("secret"))
		require.NoError(t, err)
		c := connect(t, clientv3.Config{Endpoints: s.Endpoints(), Username: "root", Password: "secret"})
		put(t, c, "key", "value")
		require.NoError(t, s.Close())
	}
}

// calls remembers the requests that interceptors have seen.
type calls struct {
	mu   sync.Mutex
	seen []any
}

func (c *calls) see(req any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, req)
}

func (c *calls) take() []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen
	c.seen = nil
	return seen
}

func (c *calls) options() etcdtest.Option {
	return etcdtest.WithGRPCServerOptions(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			c.see(req)
			return handle(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			c.see(info.FullMethod)
			return handle(srv, ss)
		}))
}

func TestInterceptorsStandBeforeAnOtherwiseUnchangedBinary(t *testing.T) {
	t.Parallel()
	var calls calls
	s := etcdtest.New(t, etcd(t), calls.options(), etcdtest.WithTLS(), etcdtest.WithAuth("secret"), etcdtest.WithMaxRequestBytes(16<<10))
	_, err := clientOf(t, s).Put(patient(t), "key", "")
	require.ErrorIs(t, err, rpctypes.ErrUserEmpty, "a status is passed on")

	root := connect(t, clientv3.Config{Endpoints: s.Endpoints(), TLS: s.TLSConfig(), Username: "root", Password: "secret"})
	calls.take()
	put(t, root, "key", "value") // with a token in its metadata
	require.IsType(t, &pb.PutRequest{}, calls.take()[0])

	ctx, cancel := context.WithCancel(patient(t))
	events := root.Watch(ctx, "key", clientv3.WithRev(1))
	require.Equal(t, "value", string((<-events).Events[0].Kv.Value))
	put(t, root, "key", "more")
	require.Equal(t, "more", string((<-events).Events[0].Kv.Value))
	cancel()
	for range events {
	}
	require.Contains(t, calls.take(), "/etcdserverpb.Watch/Watch")

	_, err = root.Put(patient(t), "key", strings.Repeat("v", 1<<20))
	require.ErrorContains(t, err, "received message larger than max")
	require.Empty(t, calls.take(), "the server refuses it before it looks")

	put(t, root, "key", "last")
	require.NoError(t, s.Restart())
	require.Equal(t, "last", get(t, root, "key"))
}

func TestProgramThatCannotBeRunIsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := func(name, script string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700))
		return path
	}
	self, err := os.Executable()
	require.NoError(t, err)
	for want, opts := range map[string][]etcdtest.Option{
		"no such file":          {etcdtest.WithBinary(filepath.Join(dir, "missing"))},
		"executable file":       {etcdtest.WithBinary("no-such-etcd")},
		"is no etcd":            {etcdtest.WithBinary(program("other", "echo other 1.2"))},
		"no known version":      {etcdtest.WithBinary(program("odd", "echo etcd Version: new"))},
		"exit status 3: broken": {etcdtest.WithBinary(program("broken", "echo broken; exit 3"))},
		"gave up: exit status 4: out of luck": {etcdtest.WithBinary(program("unlucky",
			`[ "$1" = --version ] && echo etcd Version: 3.5.0 || { echo out of luck >&2; exit 4; }`))},
		"can't hand on the name": {
			etcdtest.WithBinary(self), new(calls).options(),
			etcdtest.WithClientCertRequired(), etcdtest.WithAuth("secret"),
		},
	} {
		_, err := etcdtest.Start(opts...)
		require.ErrorContains(t, err, want)
	}
}

func TestBinaryReportsAPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for _, opts := range [][]etcdtest.Option{nil, {new(calls).options()}} {
		_, err = etcdtest.Start(append(opts, etcd(t), etcdtest.WithListenAddr(l.Addr().String()))...)
		require.ErrorContains(t, err, "address already in use")
	}
}

// The variables are the process's, so nothing is parallel here.
func TestEnvironmentNamesTheBinaryAndNothingElse(t *testing.T) {
	t.Setenv("ETCDTEST_BINARY", "no-such-etcd")
	_, err := etcdtest.Start()
	require.ErrorContains(t, err, "no-such-etcd")
	put(t, clientOf(t, etcdtest.New(t, etcdtest.WithBinary(""))), "key", "in this process")

	t.Setenv("ETCD_NAME", "another") // etcd refuses to start when it contradicts a flag
	put(t, clientOf(t, etcdtest.New(t, etcd(t))), "key", "value")
}
