package etcdtest

import (
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
)

// walSegment is how much space a server reserves for its log, twice, before it has
// written a byte. etcd's 64 MB would make each test take 128 MB of disk.
const walSegment = 4 << 20

// The size is a variable of the process, which etcd exports for tests. It is set before
// any server can run, to avoid a race.
func init() { wal.SegmentSizeBytes = walSegment }

// config returns the configuration of a member that listens on addr.
func (s *Server) config(addr string) *embed.Config {
	client := url.URL{Scheme: s.scheme(), Host: addr}
	// Nobody dials the peer address of a single member; the membership only needs a name
	// for it.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}

	cfg := embed.NewConfig()
	if s.identity != nil {
		cfg.ClientTLSInfo = s.identity.serverInfo()
	}
	cfg.Name = "etcdtest"
	cfg.Dir = s.dataDir
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(panicky(s.settings.logger))
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ListenClientUrls = []url.URL{client}
	cfg.AdvertiseClientUrls = []url.URL{client}
	cfg.TickMs = uint(s.settings.tick.Milliseconds())
	cfg.ElectionMs = uint(s.settings.election.Milliseconds())
	cfg.UnsafeNoFsync = !s.settings.fsync
	if n := s.settings.maxTxnOps; n != 0 {
		cfg.MaxTxnOps = n
	}
	if n := s.settings.maxRequestBytes; n != 0 {
		cfg.MaxRequestBytes = n
	}
	if d := s.settings.progress; d != 0 {
		cfg.WatchProgressNotifyInterval = d
	}
	cfg.QuotaBackendBytes = s.settings.quota
	cfg.BcryptCost = uint(bcrypt.MinCost)
	if ttl := s.settings.tokenTTL; ttl != 0 {
		cfg.AuthTokenTTL = uint(ttl / time.Second)
	}
	// A stop must wait for the handlers, so that none outlives the server.
	cfg.GRPCAdditionalServerOptions = append([]grpc.ServerOption{grpc.WaitForHandlers(true)}, s.settings.grpcOptions...)
	return cfg
}

// panicky returns lg changed so that a fatal entry panics with its text: zap would end
// the process, and silently if lg drops its entries.
func panicky(lg *zap.Logger) *zap.Logger {
	return lg.WithOptions(zap.WithFatalHook(panicHook{}), zap.WithPanicHook(panicHook{}))
}

type panicHook struct{}

func (panicHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	text := entry.Message
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok {
			text += ": " + err.Error()
		}
	}
	panic(text)
}
