package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"
)

// binaryVariable is the environment variable that sets a program for every server of this
// process, see [WithBinary].
const binaryVariable = "ETCDTEST_BINARY"

// versionTimeout bounds asking a program for its version, which takes about 20 ms.
const versionTimeout = 20 * time.Second

// WithBinary runs the etcd program at path as a child process, instead of the server in
// this process, to test against the version that runs in production. All other options
// apply to it, too. A name without a slash is looked up in PATH; the empty path means the
// server in this process.
//
// Without this option the environment variable ETCDTEST_BINARY gives the path, so that a
// whole suite runs on another version without a change. Versions 3.4 to 3.7 of etcd are
// known to work; [Server.Version] returns which one it is.
//
// Differences: [Server.Stop] kills the child. Its log takes 128 MB of disk. With
// [WithGRPCServerOptions] clients talk to a gRPC server in this process, which forwards
// their requests; it can't forward the name in a client's certificate, so
// [WithClientCertRequired] together with [WithAuth] is refused then. A program before 3.5
// always syncs to disk, as with [WithFsync].
func WithBinary(path string) Option {
	return func(s *settings) { s.binary = path }
}

// binary is an etcd program.
type binary struct {
	path         string
	version      string // "3.5.21"
	major, minor int
}

// findBinary returns the program that set asks for, or nil.
func findBinary(set *settings) (*binary, error) {
	if set.binary == "" {
		return nil, nil
	}
	if len(set.grpcOptions) > 0 && set.requireClientCert && set.rootPassword != "" {
		return nil, errors.New("etcdtest: WithBinary: WithGRPCServerOptions can't hand on the name in a client's certificate, which WithClientCertRequired with WithAuth needs")
	}
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	asked := exec.CommandContext(ctx, set.binary, "--version") //nolint:gosec // the program is the caller's to choose
	asked.Env = environment(os.Environ())
	out, err := asked.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("etcdtest: WithBinary: %s --version: %w: %s", set.binary, err, out)
	}
	b := &binary{path: set.binary}
	if _, err := fmt.Sscanf(string(out), "etcd Version: %s", &b.version); err != nil {
		return nil, fmt.Errorf("etcdtest: WithBinary: %s is no etcd: --version says %q", set.binary, out)
	}
	if _, err := fmt.Sscanf(b.version, "%d.%d.", &b.major, &b.minor); err != nil {
		return nil, fmt.Errorf("etcdtest: WithBinary: %s is etcd of no known version: %q", set.binary, b.version)
	}
	return b, nil
}

// run starts the program for s, with clients served on addr.
func (b *binary) run(s *Server, addr string) (member, error) {
	if len(s.settings.grpcOptions) == 0 {
		return runProcess(s, clientURL(s.scheme(), addr), clientURL(s.scheme(), addr))
	}
	return runFronted(s, addr)
}

// flags returns the program's flags, which say the same as config. The program listens on
// one address, and tells clients another one if something is in front.
func (b *binary) flags(s *Server, listen, advertise *url.URL) []string {
	const peer = "http://127.0.0.1:0" // as in config: nobody dials it
	set := s.settings
	flags := []string{
		"--name=etcdtest",
		"--data-dir=" + s.dataDir,
		"--logger=zap",
		"--log-outputs=stderr",
		"--log-level=" + logLevel(set.logger),
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=etcdtest=" + peer,
		"--listen-client-urls=" + listen.String(),
		"--advertise-client-urls=" + advertise.String(),
		"--heartbeat-interval=" + strconv.FormatInt(set.tick.Milliseconds(), 10),
		"--election-timeout=" + strconv.FormatInt(set.election.Milliseconds(), 10),
		"--quota-backend-bytes=" + strconv.FormatInt(set.quota, 10),
		"--bcrypt-cost=" + strconv.Itoa(bcrypt.MinCost),
	}
	add := func(flag string, value uint) {
		if value != 0 {
			flags = append(flags, "--"+flag+"="+strconv.FormatUint(uint64(value), 10))
		}
	}
	add("max-txn-ops", set.maxTxnOps)
	add("max-request-bytes", set.maxRequestBytes)
	add("auth-token-ttl", uint(set.tokenTTL/time.Second))
	if set.progress != 0 {
		flags = append(flags, "--"+b.progressFlag()+"="+set.progress.String())
	}
	if !set.fsync && b.since(3, 5) {
		flags = append(flags, "--unsafe-no-fsync")
	}
	if listen.Scheme == "https" {
		flags = append(flags, s.identity.flags()...)
	}
	return flags
}

func (b *binary) progressFlag() string {
	if b.since(3, 6) {
		return "watch-progress-notify-interval"
	}
	return "experimental-watch-progress-notify-interval"
}

// since reports whether the program is etcd major.minor or a later one.
func (b *binary) since(major, minor int) bool {
	return b.major > major || b.major == major && b.minor >= minor
}

// logLevel returns the lowest level of entries that lg wants. Errors are always included:
// they show why a start has failed.
func logLevel(lg *zap.Logger) string {
	return min(max(lg.Level(), zap.DebugLevel), zap.ErrorLevel).String()
}

func clientURL(scheme, addr string) *url.URL { return &url.URL{Scheme: scheme, Host: addr} }

// environment removes variables that etcd would take for its flags: it refuses to start
// if a variable contradicts a flag.
func environment(all []string) []string {
	var kept []string
	for _, v := range all {
		if !strings.HasPrefix(v, "ETCD_") || strings.HasPrefix(v, "ETCD_UNSUPPORTED_ARCH=") {
			kept = append(kept, v)
		}
	}
	return kept
}
