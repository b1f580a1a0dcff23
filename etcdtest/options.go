package etcdtest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const (
	defaultTick     = 10 * time.Millisecond
	defaultElection = 100 * time.Millisecond

	// minProgress is the shortest interval that etcd doesn't replace by a longer one.
	minProgress = 100 * time.Millisecond

	// maxElection is the highest election timeout that etcd accepts.
	maxElection = 50 * time.Second
)

// Option changes how [New] and [Start] set up a server. If two set the same thing, the
// later one counts.
type Option func(*settings)

// settings is the result of the options of one server.
type settings struct {
	dir             string
	listen          string
	logger          *zap.Logger
	fsync           bool
	tick, election  time.Duration
	progress        time.Duration // 0 means etcd's own
	maxTxnOps       uint
	maxRequestBytes uint
	quota           int64
	grpcOptions     []grpc.ServerOption
	binary          string // "" for the server in this process

	tls               bool
	requireClientCert bool
	serverCert        []CertOption
	ca                *CA

	rootPassword string // "" without authentication
	users        []user
	tokenTTL     time.Duration

	// problems are the complaints about invalid arguments.
	problems []error
}

func collect(opts []Option) (*settings, error) {
	s := &settings{
		listen:   "127.0.0.1:0",
		binary:   os.Getenv(binaryVariable),
		logger:   zap.NewNop(),
		tick:     defaultTick,
		election: defaultElection,
	}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("etcdtest: an option is nil")
		}
		opt(s)
	}
	s.checkAuth()
	if err := errors.Join(s.problems...); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *settings) reject(option, format string, args ...any) {
	s.problems = append(s.problems, fmt.Errorf("etcdtest: "+option+": "+format, args...))
}

// WithDir keeps the data in path, which is made if it is missing and outlives the server:
// a later server with the same path continues with the data. By default the data lies in
// a temporary directory that is removed with the server.
//
// A file named etcdtest.lock in the directory keeps a second server away while it is in
// use; the file stays behind, empty.
func WithDir(path string) Option {
	return func(s *settings) {
		if path == "" {
			s.reject("WithDir", "the path is empty")
		}
		s.dir = path
	}
}

// WithListenAddr sets the address for clients, as "ip:port" of a loopback interface:
// "127.0.0.1:2379", "[::1]:0". Port 0, the default, means a free one.
func WithListenAddr(addr string) Option {
	return func(s *settings) {
		ap, err := netip.ParseAddrPort(addr)
		switch {
		case err != nil:
			s.reject("WithListenAddr", "%q is not ip:port", addr)
		case !ap.Addr().IsLoopback():
			s.reject("WithListenAddr", "%s is not a loopback address", addr)
		default:
			s.listen = net.JoinHostPort(ap.Addr().String(), fmt.Sprint(ap.Port()))
		}
	}
}

// WithLogger sends the server's own log to lg. By default it is dropped.
func WithLogger(lg *zap.Logger) Option {
	return func(s *settings) {
		if lg == nil {
			s.reject("WithLogger", "the logger is nil")
			return
		}
		s.logger = lg
	}
}

// WithFsync makes the server sync every write to disk, as a production server does. By
// default it doesn't, which about triples the rate of sequential writes; then data
// survives [Server.Restart] and the end of the process, but not a crash of the machine.
func WithFsync() Option {
	return func(s *settings) { s.fsync = true }
}

// WithTick sets the heartbeat interval and the election timeout, in whole milliseconds;
// the timeout must be at least five ticks and at most 50 s. The defaults are 10 ms and
// 100 ms, a tenth of what production servers use. They determine the shortest lease: one
// and a half election timeouts, rounded up to the next second, hence 1 s here and 2 s in
// production.
func WithTick(tick, election time.Duration) Option {
	return func(s *settings) {
		switch {
		case tick < time.Millisecond || tick%time.Millisecond != 0 || election%time.Millisecond != 0:
			s.reject("WithTick", "%v and %v are not whole milliseconds above 0", tick, election)
		case election < 5*tick:
			s.reject("WithTick", "the election timeout %v is shorter than five ticks of %v", election, tick)
		case election > maxElection:
			s.reject("WithTick", "the election timeout %v is longer than %v", election, maxElection)
		}
		s.tick, s.election = tick, election
	}
}

// WithMaxTxnOps limits the operations in one transaction to n. The default, as in
// production, is 128.
func WithMaxTxnOps(n uint) Option {
	return func(s *settings) {
		if n == 0 {
			s.reject("WithMaxTxnOps", "the limit is 0")
		}
		s.maxTxnOps = n
	}
}

// WithMaxRequestBytes limits the size of one request to n bytes. The default, as in
// production, is 1.5 MiB.
func WithMaxRequestBytes(n uint) Option {
	return func(s *settings) {
		if n == 0 {
			s.reject("WithMaxRequestBytes", "the limit is 0")
		}
		s.maxRequestBytes = n
	}
}

// WithQuota limits the size of the database to n bytes: beyond it, writes fail with
// "database space exceeded". The default, as in production, is 2 GiB.
func WithQuota(n int64) Option {
	return func(s *settings) {
		if n <= 0 {
			s.reject("WithQuota", "%d is not a size", n)
		}
		s.quota = n
	}
}

// WithProgressInterval sets how often a watch that asked for progress reports gets one
// while it has no events, at least 100 ms. The default, as in production, is 10 min.
// Servers in this process share the interval: the one started last sets it.
func WithProgressInterval(d time.Duration) Option {
	return func(s *settings) {
		if d < minProgress {
			s.reject("WithProgressInterval", "%v is shorter than %v", d, minProgress)
		}
		s.progress = d
	}
}

// WithGRPCServerOptions adds opts to the gRPC server, after etcd's own. Use it to inject
// faults by an interceptor, which can fail a request before or after etcd has applied it.
// [grpc.ChainUnaryInterceptor] runs inside etcd's own interceptors,
// [grpc.UnaryInterceptor] around them. An interceptor must return once its context ends,
// because [Server.Close] waits for it.
func WithGRPCServerOptions(opts ...grpc.ServerOption) Option {
	return func(s *settings) { s.grpcOptions = append(s.grpcOptions, opts...) }
}
