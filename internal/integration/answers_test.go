package integration

import (
	"context"
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// said is an error of the server's own packages: in which versions it is, and
// what a put is told that is answered by it, under code Unknown as the server has
// it where it is not translated (v3rpc/util.go, togRPCError).
//
// Taken from the sources of etcd 3.4.16, 3.5.21, 3.6.16 and 3.7.3: packages auth,
// raft, lease, mvcc, etcdserver and its membership, version and v3rpc.
type said struct {
	versions string
	// kind is nil for an error that never leaves the server, and for one that
	// passes: the put is sent again, and succeeds.
	kind error
	// maybe says that the put may have been applied.
	maybe bool
	// passes says that the put is sent again at once: certainly not applied.
	passes bool
	// inside says why the error never leaves the server.
	inside string
}

func refusal(versions string, kind error) said { return said{versions: versions, kind: kind} }
func maybe(versions string, kind error) said {
	return said{versions: versions, kind: kind, maybe: true}
}
func passes(versions string) said      { return said{versions: versions, passes: true} }
func inside(versions, why string) said { return said{versions: versions, inside: why} }

var serverErrors = map[string]said{
	// auth
	"auth: root user does not exist":                                       refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"auth: root user does not have root role":                              refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"auth: user already exists":                                            refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"auth: user name is empty":                                             refusal("3.4-3.7", etcd.ErrUnauthenticated),
	"auth: user not found":                                                 refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"auth: role already exists":                                            refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"auth: role not found":                                                 refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"auth: role name is empty":                                             refusal("3.4-3.7", etcd.ErrInvalidArgument),
	"auth: permission not given":                                           refusal("3.5-3.7", etcd.ErrInvalidArgument),
	"auth: authentication failed, invalid user ID or password":             refusal("3.4-3.7", etcd.ErrAuthFailed),
	"auth: authentication failed, password was given for no password user": refusal("3.4-3.7", etcd.ErrAuthFailed),
	"auth: permission denied":                                              refusal("3.4-3.7", etcd.ErrPermissionDenied),
	"auth: role is not granted to the user":                                refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"auth: permission is not granted to the role":                          refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"auth: authentication is not enabled":                                  refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"auth: revision in header is old":                                      refusal("3.4-3.7", etcd.ErrUnauthenticated),
	"auth: invalid auth token":                                             refusal("3.4-3.7", etcd.ErrUnauthenticated),
	"auth: invalid auth management":                                        refusal("3.4-3.7", etcd.ErrInvalidArgument),
	"auth: token signing attempted with verify-only key":                   refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"failed to assign":                                                     passes("3.6-3.7"),
	"auth: invalid auth options":                                           inside("3.4-3.7", "ends a server at its start"),
	"auth: invalid auth signature method":                                  inside("3.4-3.7", "ends a server at its start"),
	"auth: missing key data":                                               inside("3.4-3.7", "ends a server at its start"),
	"auth: public and private keys don't match":                            inside("3.4-3.7", "ends a server at its start"),
	"invalid signing method":                                               inside("3.4-3.7", "told as an invalid token"),

	// raft
	"raft proposal dropped":                                                 passes("3.4-3.7"),
	"raft: stopped":                                                         maybe("3.4-3.7", etcd.ErrUnavailable),
	"raft: cannot step raft local message":                                  inside("3.4-3.7", "RawNode only, which etcd does not use"),
	"raft: cannot step as peer not found":                                   inside("3.4-3.7", "RawNode only, which etcd does not use"),
	"requested index is unavailable due to compaction":                      inside("3.4-3.7", "raft's log"),
	"requested index is older than the existing snapshot":                   inside("3.4-3.7", "raft's log"),
	"requested entry at index is unavailable":                               inside("3.4-3.7", "raft's log"),
	"snapshot is temporarily unavailable":                                   inside("3.4-3.7", "raft's log"),
	"must provide at least one peer to Bootstrap":                           inside("3.4-3.7", "ends a server at its start"),
	"can't bootstrap a nonempty Storage":                                    inside("3.4-3.7", "ends a server at its start"),
	"cannot use none as id":                                                 inside("3.4-3.7", "raft's configuration"),
	"cannot use local target as id":                                         inside("3.6-3.7", "raft's configuration"),
	"heartbeat tick must be greater than 0":                                 inside("3.4-3.7", "raft's configuration"),
	"election tick must be greater than heartbeat tick":                     inside("3.4-3.7", "raft's configuration"),
	"storage cannot be nil":                                                 inside("3.4-3.7", "raft's configuration"),
	"max inflight messages must be greater than 0":                          inside("3.4-3.7", "raft's configuration"),
	"max inflight bytes must be >= max message size":                        inside("3.6-3.7", "raft's configuration"),
	"CheckQuorum must be enabled when ReadOnlyOption is ReadOnlyLeaseBased": inside("3.4-3.7", "raft's configuration"),
	"break":                        inside("3.6-3.7", "a loop of raft"),
	"nil message":                  inside("3.7", "a mistake of the server"),
	"cannot step with nil message": inside("3.7", "a mistake of the server"),

	// lease
	"not a primary lessor": passes("3.4-3.7"),
	"lease not found":      refusal("3.4-3.7", etcd.ErrLeaseNotFound),
	"lease already exists": refusal("3.4-3.7", etcd.ErrLeaseExists),
	"too large lease TTL":  refusal("3.4-3.7", etcd.ErrInvalidTTL),
	"waiting for node to catch up its applied index has timed out": maybe("3.4-3.7", etcd.ErrTimeout),

	// mvcc
	"mvcc: required revision has been compacted":           refusal("3.4-3.7", etcd.ErrCompacted),
	"mvcc: required revision is a future revision":         refusal("3.4-3.7", etcd.ErrFutureRevision),
	"mvcc: watcher range is empty":                         refusal("3.4-3.7", etcd.ErrInvalidArgument),
	"mvcc: duplicate watch ID provided on the WatchStream": refusal("3.4-3.7", etcd.ErrInvalidArgument),
	"mvcc: watcher does not exist":                         inside("3.4-3.7", "the cancellation of a watch that is gone is not answered"),
	"mvcc: revision not found":                             inside("3.4-3.7", "the index of keys"),
	"mvcc: watcher is canceled":                            inside("3.4", "not used"),
	"mvcc: closed":                                         inside("3.4", "the hash of a store that was closed"),

	// etcdserver
	"etcdserver: unknown method":                                                 refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"etcdserver: server stopped":                                                 maybe("3.4-3.7", etcd.ErrUnavailable),
	"etcdserver: request cancelled":                                              maybe("3.4-3.7", etcd.ErrUnavailable),
	"etcdserver: request timed out":                                              maybe("3.4-3.7", etcd.ErrTimeout),
	"etcdserver: request timed out, possibly due to previous leader failure":     maybe("3.4-3.7", etcd.ErrTimeout),
	"etcdserver: request timed out, possibly due to connection lost":             maybe("3.4-3.7", etcd.ErrTimeout),
	"etcdserver: request timed out, leader transfer took too long":               maybe("3.4-3.7", etcd.ErrTimeout),
	"etcdserver: request timed out, waiting for the applied index took too long": maybe("3.5-3.7", etcd.ErrTimeout),
	"etcdserver: leader changed":                                                 maybe("3.4-3.7", etcd.ErrUnavailable),
	"etcdserver: re-configuration failed due to not enough started members":      refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"etcdserver: can only promote a learner member which is in sync with leader": refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"etcdserver: no leader":                                                      maybe("3.4-3.7", etcd.ErrNoLeader),
	"etcdserver: not leader":                                                     refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"etcdserver: request is too large":                                           refusal("3.4-3.7", etcd.ErrTooLarge),
	"etcdserver: no space":                                                       maybe("3.4-3.7", etcd.ErrNoSpace),
	"etcdserver: too many requests":                                              passes("3.4-3.7"),
	"etcdserver: unhealthy cluster":                                              maybe("3.4-3.7", etcd.ErrUnavailable),
	"etcdserver: key not found":                                                  refusal("3.4-3.7", etcd.ErrKeyNotFound),
	"etcdserver: corrupt cluster":                                                refusal("3.4-3.7", etcd.ErrClusterCorrupt),
	"etcdserver: bad leader transferee":                                          refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"etcdserver: cluster version not found during downgrade":                     refusal("3.5-3.7", etcd.ErrFailedPrecondition),
	"etcdserver: wrong downgrade target version format":                          refusal("3.5-3.7", etcd.ErrInvalidArgument),
	"etcdserver: invalid downgrade target version":                               refusal("3.5-3.7", etcd.ErrInvalidArgument),
	"etcdserver: cluster has a downgrade job in progress":                        refusal("3.5-3.7", etcd.ErrFailedPrecondition),
	"etcdserver: no inflight downgrade job":                                      refusal("3.5-3.7", etcd.ErrFailedPrecondition),
	"invalid downgrade target":                                                   inside("3.6-3.7", "the monitor of versions"),

	// membership
	"membership: ID removed":                          refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"membership: ID exists":                           refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"membership: ID not found":                        refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"membership: peerURL exists":                      refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"membership: can only promote a learner member":   refusal("3.4-3.7", etcd.ErrFailedPrecondition),
	"membership: too many learner members in cluster": refusal("3.4-3.7", etcd.ErrFailedPrecondition),

	// v3rpc and the proxy
	"RangeStream does not support custom sort orders":       refusal("3.7", etcd.ErrInvalidArgument),
	"RangeStream does not support revision filters":         refusal("3.7", etcd.ErrInvalidArgument),
	"RangeStream is not supported by the gRPC proxy":        refusal("3.7", etcd.ErrFailedPrecondition),
	"RangeStream is not supported by the KV client adapter": refusal("3.7", etcd.ErrFailedPrecondition),
	"the client connection is closing":                      inside("3.4-3.7", "by code Canceled only, which says nothing of a write"),
	"not exist":                                             inside("3.4-3.7", "the proxy's cache"),
	"not implemented":                                       inside("3.4-3.7", "the proxy's members"),
	"adapter: already sent header":                          inside("3.4-3.7", "the proxy's streams"),
}

// serverPackages are those of 3.7 whose errors a client can be told.
var serverPackages = []string{
	"go.etcd.io/raft/v3",
	"go.etcd.io/etcd/server/v3/auth",
	"go.etcd.io/etcd/server/v3/lease",
	"go.etcd.io/etcd/server/v3/lease/leasehttp",
	"go.etcd.io/etcd/server/v3/storage/mvcc",
	"go.etcd.io/etcd/server/v3/etcdserver/errors",
	"go.etcd.io/etcd/server/v3/etcdserver/version",
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership",
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc",
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy",
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter",
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/cache",
}

// errorTexts returns the texts of all errors that a package makes of a constant.
func errorTexts(t *testing.T, path string) []string {
	t.Helper()
	pkg, err := build.Import(path, ".", 0)
	require.NoError(t, err)
	require.NotEmpty(t, pkg.GoFiles)
	var texts []string
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(pkg.Dir, name), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && makesError(call) {
				if lit, ok := call.Args[len(call.Args)-1].(*ast.BasicLit); ok {
					text, err := strconv.Unquote(lit.Value)
					require.NoError(t, err)
					texts = append(texts, text)
				}
			}
			return true
		})
	}
	return texts
}

// makesError reports whether call is errors.New or status.Error or Errorf,
// whatever package errors is called.
func makesError(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && (strings.HasPrefix(pkg.Name, "errors") && sel.Sel.Name == "New" ||
		pkg.Name == "status" && strings.HasPrefix(sel.Sel.Name, "Error"))
}

func TestEveryErrorOfTheServersPackagesIsKnown(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, path := range serverPackages {
		for _, text := range errorTexts(t, path) {
			found[text] = true
			assert.Contains(t, serverErrors, text, "a new error of %s", path)
		}
	}
	for text, s := range serverErrors {
		assert.Equal(t, strings.HasSuffix(s.versions, "3.7"), found[text], "%q, of %s", text, s.versions)
	}
}

// answering has a server answer the next put by what is in the pointer.
func answering(t testing.TB) (*etcdtest.Server, *atomic.Pointer[error]) {
	t.Helper()
	next := new(atomic.Pointer[error])
	return server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if strings.HasSuffix(info.FullMethod, "/Put") {
				if err := next.Swap(nil); err != nil {
					return nil, *err
				}
			}
			return handle(ctx, req)
		}))), next
}

func TestServerPackageErrorsMeanWhatTheySay(t *testing.T) {
	t.Parallel()
	srv, next := answering(t)
	c := client(t, config(srv))
	for text, s := range serverErrors {
		if s.inside != "" {
			continue
		}
		answer := status.Error(codes.Unknown, text)
		next.Store(&answer)
		err := c.Put(t.Context(), prefix(t)+"key", nil)
		if s.passes {
			assert.NoError(t, err, text)
			continue
		}
		var e *etcd.Error
		if !assert.ErrorAs(t, err, &e, text) {
			continue
		}
		assert.ErrorIs(t, err, s.kind, text)
		assert.NotErrorIs(t, err, etcd.ErrServer, text)
		assert.Equal(t, s.maybe, etcd.MaybeApplied(err), text)
		assert.Equal(t, codes.Unknown, status.Code(errors.Unwrap(e)), text)
	}
}

// A read sees the same text in the words of a transaction.
func TestTransactionNamesTheServersReason(t *testing.T) {
	t.Parallel()
	srv, next := answering(t)
	c := client(t, config(srv))
	answer := status.Error(codes.Unknown, "applyTxn: failed Range: mvcc: required revision has been compacted")
	next.Store(&answer)
	require.ErrorIs(t, c.Put(t.Context(), "key", nil), etcd.ErrCompacted)
}

// Raft drops what is proposed while a leader hands over: each kind of write is sent
// again, and executed once.
func TestDroppedProposalIsSentAgain(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))
	for _, op := range writesOfTheAPI {
		call := op.begin(t, c, prefix(t)+op.name)
		s := &script{answer: status.Error(codes.Unknown, "raft proposal dropped"), writesOnly: true, times: 1, refuse: true}
		require.NoError(t, call(faults.follow(t.Context(), s)), op.name)
		assert.Equal(t, int64(1), s.executed.Load(), op.name)
	}
}

// etcd 3.4 with JWTs says so after each change of users or roles.
func TestOldTokenRevisionGetsANewToken(t *testing.T) {
	t.Parallel()
	var old atomic.Bool
	srv := server(t, etcdtest.WithAuth("root"), etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if strings.HasSuffix(info.FullMethod, "/Authenticate") {
				old.Store(false)
			} else if old.Load() {
				return nil, status.Error(codes.Unknown, "auth: revision in header is old")
			}
			return handle(ctx, req)
		})))
	c := client(t, config(srv).WithAuth("root", "root"))
	for range 3 {
		old.Store(true)
		require.NoError(t, c.Put(t.Context(), "key", nil))
		assert.False(t, old.Load(), "a new token was asked for")
	}
}
