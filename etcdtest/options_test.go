package etcdtest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/etcdtest"
)

func TestStartNamesEveryWrongOption(t *testing.T) {
	t.Parallel()
	all := []etcdtest.Option{}
	wanted := []string{}
	for _, tc := range []struct {
		opt  etcdtest.Option
		want string
	}{
		{etcdtest.WithDir(""), "WithDir: the path is empty"},
		{etcdtest.WithListenAddr("localhost:1"), `WithListenAddr: "localhost:1" is not ip:port`},
		{etcdtest.WithListenAddr("192.0.2.1:0"), "WithListenAddr: 192.0.2.1:0 is not a loopback address"},
		{etcdtest.WithLogger(nil), "WithLogger: the logger is nil"},
		{etcdtest.WithTick(0, time.Second), "WithTick: 0s and 1s are not whole milliseconds"},
		{etcdtest.WithTick(1500*time.Microsecond, time.Second), "WithTick: 1.5ms and 1s are not whole milliseconds"},
		{etcdtest.WithTick(10*time.Millisecond, 49*time.Millisecond), "WithTick: the election timeout 49ms is shorter than five ticks of 10ms"},
		{etcdtest.WithTick(time.Second, time.Minute), "WithTick: the election timeout 1m0s is longer than 50s"},
		{etcdtest.WithMaxTxnOps(0), "WithMaxTxnOps: the limit is 0"},
		{etcdtest.WithMaxRequestBytes(0), "WithMaxRequestBytes: the limit is 0"},
		{etcdtest.WithProgressInterval(99 * time.Millisecond), "WithProgressInterval: 99ms is shorter than 100ms"},
		{etcdtest.WithQuota(-1), "WithQuota: -1 is not a size"},
		{etcdtest.WithCA(nil), "WithCA: the authority is nil"},
		{etcdtest.WithAuth(""), "WithAuth: the password is empty"},
		{etcdtest.WithUser("", "pw"), "WithUser: the name is empty"},
		{etcdtest.WithUser("root", "pw"), "WithUser: root is set by WithAuth"},
		{etcdtest.WithUser("ann", "pw"), "WithUser: needs WithAuth"},
		{etcdtest.WithUser("bob", "pw", etcdtest.Permission{Read: true}), "WithUser: bob: a permission needs exactly one of"},
		{etcdtest.WithUser("cid", "pw", etcdtest.Permission{Key: "a", Prefix: "b", Read: true}), "WithUser: cid: a permission needs exactly one of"},
		{etcdtest.WithUser("dot", "pw", etcdtest.Permission{Key: "a"}), "WithUser: dot: a permission needs Read or Write"},
		{etcdtest.WithAuthTokenTTL(1500 * time.Millisecond), "WithAuthTokenTTL: 1.5s is not whole seconds"},
		{etcdtest.WithAuthTokenTTL(time.Second), "WithAuthTokenTTL: needs WithAuth"},
		{etcdtest.WithServerCertificate(nil), "a certificate option is nil"},
		{nil, "an option is nil"},
	} {
		_, err := etcdtest.Start(tc.opt)
		require.ErrorContains(t, err, tc.want)
		if !strings.HasSuffix(tc.want, "is nil") { // these end the check
			all, wanted = append(all, tc.opt), append(wanted, tc.want)
		}
	}
	_, err := etcdtest.Start(all...)
	for _, want := range wanted {
		require.ErrorContains(t, err, want)
	}
}

func TestLimitsAreThoseAskedFor(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t,
		etcdtest.WithMaxTxnOps(2),
		etcdtest.WithMaxRequestBytes(16<<10),
		etcdtest.WithQuota(1<<20),
	)
	c := clientOf(t, s)

	txn := func(keys ...string) error {
		var ops []clientv3.Op
		for _, k := range keys {
			ops = append(ops, clientv3.OpPut(k, "v"))
		}
		_, err := c.Txn(patient(t)).Then(ops...).Commit()
		return err
	}
	require.NoError(t, txn("a", "b"))
	require.ErrorIs(t, txn("a", "b", "c"), rpctypes.ErrTooManyOps)

	put(t, c, "key", strings.Repeat("v", 15<<10))
	_, err := c.Put(patient(t), "key", strings.Repeat("v", 17<<10))
	require.ErrorIs(t, err, rpctypes.ErrRequestTooLarge)

	for range 1000 {
		if _, err = c.Put(patient(t), "key", strings.Repeat("v", 15<<10)); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, rpctypes.ErrNoSpace)
}

func TestShortestLeaseFollowsTheElectionTimeout(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		opts []etcdtest.Option
		ttl  int64
	}{
		{"default", nil, 1},
		{"production", []etcdtest.Option{etcdtest.WithTick(100*time.Millisecond, time.Second)}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := clientOf(t, etcdtest.New(t, tc.opts...))
			lease, err := c.Grant(patient(t), 1)
			require.NoError(t, err)
			require.Equal(t, tc.ttl, lease.TTL)
		})
	}
}

func TestDirectoryServesOneServerAndOutlivesIt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	first, err := etcdtest.Start(etcdtest.WithDir(dir))
	require.NoError(t, err)
	put(t, clientOf(t, first), "key", "value")

	_, err = etcdtest.Start(etcdtest.WithDir(dir))
	require.ErrorContains(t, err, "in use by another server")
	first.Stop()
	_, err = etcdtest.Start(etcdtest.WithDir(dir))
	require.ErrorContains(t, err, "in use by another server", "a stopped server may come back")
	require.NoError(t, first.Close())

	second := etcdtest.New(t, etcdtest.WithDir(dir))
	require.Equal(t, "value", get(t, clientOf(t, second), "key"))
}

// A damaged directory makes etcd log a fatal error, which without further ado
// would end the process, in silence. It costs etcd's goroutines, hence a
// process of its own.
func TestDamagedDirectoryIsAnError(t *testing.T) {
	if dir := os.Getenv("ETCDTEST_DAMAGED_DIR"); dir != "" {
		_, err := etcdtest.Start(etcdtest.WithDir(dir), etcdtest.WithBinary(""))
		os.Stdout.WriteString("Start said: " + err.Error() + "\n")
		os.Exit(0)
	}
	t.Parallel()
	dir := t.TempDir()
	s, err := etcdtest.Start(etcdtest.WithDir(dir), etcdtest.WithBinary(""))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	for _, log := range logs {
		require.NoError(t, os.WriteFile(log, []byte(strings.Repeat("not a log", 1000)), 0o600))
	}

	self, err := os.Executable()
	require.NoError(t, err)
	child := exec.CommandContext(patient(t), self, "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "ETCDTEST_DAMAGED_DIR="+dir)
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "Start said: etcdtest: start: etcd gave up: ")
}

func TestListenAddrIsKept(t *testing.T) {
	t.Parallel()
	s, err := etcdtest.Start()
	require.NoError(t, err)
	free := s.Endpoint()
	require.NoError(t, s.Close())

	second := etcdtest.New(t, etcdtest.WithListenAddr(free))
	require.Equal(t, free, second.Endpoint())
	put(t, clientOf(t, second), "key", "value")
}

func TestLoggerGetsTheServersLog(t *testing.T) {
	t.Parallel()
	core, entries := observer.New(zap.InfoLevel)
	s := etcdtest.New(t, etcdtest.WithLogger(zap.New(core)), etcdtest.WithBinary(""))
	require.NotZero(t, entries.FilterMessage("ready to serve client requests").Len())
	s.Stop()
	require.NotZero(t, entries.FilterMessage("closed etcd server").Len())
}

func TestInterceptorMayFailAPutThatWasApplied(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		opt  func(grpc.UnaryServerInterceptor) grpc.ServerOption
	}{
		{"chained", func(i grpc.UnaryServerInterceptor) grpc.ServerOption { return grpc.ChainUnaryInterceptor(i) }},
		{"around", grpc.UnaryInterceptor},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var applied atomic.Int64
			lose := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
				resp, err := handle(ctx, req)
				if _, is := req.(*pb.PutRequest); is && err == nil {
					applied.Add(1)
					return nil, status.Error(codes.Aborted, "lost")
				}
				return resp, err
			}
			s := etcdtest.New(t, etcdtest.WithGRPCServerOptions(tc.opt(lose)))
			for range 2 { // it has to survive a restart
				c := clientOf(t, s)
				_, err := c.Put(patient(t), "key", "value")
				require.Equal(t, codes.Aborted, status.Code(err), "%v", err)
				require.Equal(t, "value", get(t, c, "key"))
				require.NoError(t, s.Restart())
			}
			require.EqualValues(t, 2, applied.Load())
		})
	}
}
