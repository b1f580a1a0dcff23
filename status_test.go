package etcd_test

import (
	"context"
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// serverStatuses reads the statuses that an etcd server answers by from the
// source of the package that declares them, so that none is forgotten when a
// version adds one.
func serverStatuses(t *testing.T) map[string]error {
	t.Helper()
	pkg, err := build.Import("go.etcd.io/etcd/api/v3/v3rpc/rpctypes", ".", build.FindOnly)
	require.NoError(t, err)
	notTest := func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }
	parsed, err := parser.ParseDir(token.NewFileSet(), pkg.Dir, notTest, parser.SkipObjectResolution)
	require.NoError(t, err)
	all := map[string]error{}
	ast.Inspect(parsed["rpctypes"], func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "ErrGRPC") {
			return true
		}
		if call, ok := spec.Values[0].(*ast.CallExpr); ok {
			all[spec.Names[0].Name] = statusOf(t, call)
		}
		return false
	})
	return all
}

// statusOf evaluates status.Error(codes.X, "message").
func statusOf(t *testing.T, call *ast.CallExpr) error {
	t.Helper()
	require.Len(t, call.Args, 2)
	var code codes.Code
	name := call.Args[0].(*ast.SelectorExpr).Sel.Name
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		if c.String() == name {
			code = c
		}
	}
	require.NotEqual(t, codes.OK, code, name)
	msg, err := strconv.Unquote(call.Args[1].(*ast.BasicLit).Value)
	require.NoError(t, err)
	return status.Error(code, msg)
}

// The statuses after which a write may have been applied. All others are proof
// that it was not.
var unknownOutcome = map[string]bool{
	"ErrGRPCNoSpace":                    true, // the write that exceeds the quota is applied
	"ErrGRPCNoLeader":                   true,
	"ErrGRPCLeaderChanged":              true,
	"ErrGRPCStopped":                    true,
	"ErrGRPCUnhealthy":                  true,
	"ErrGRPCTimeout":                    true,
	"ErrGRPCTimeoutDueToLeaderFail":     true,
	"ErrGRPCTimeoutDueToConnectionLost": true,
	"ErrGRPCTimeoutWaitAppliedIndex":    true,
	"ErrGRPCDeadlineExceeded":           true,
	"ErrGRPCCanceled":                   true,
	"ErrGRPCWatchCanceled":              true,
}

// sentinels are those that a server's status may fall under.
var sentinels = []error{
	etcd.ErrInvalidArgument, etcd.ErrEmptyKey, etcd.ErrInvalidTTL, etcd.ErrTooLarge, etcd.ErrTooManyOps,
	etcd.ErrDuplicateKey, etcd.ErrKeyNotFound, etcd.ErrCompacted, etcd.ErrFutureRevision,
	etcd.ErrLeaseNotFound, etcd.ErrLeaseExists, etcd.ErrAuthFailed, etcd.ErrUnauthenticated,
	etcd.ErrPermissionDenied, etcd.ErrUnavailable, etcd.ErrNoLeader, etcd.ErrNoSpace,
	etcd.ErrTooManyRequests, etcd.ErrClusterCorrupt, etcd.ErrFailedPrecondition,
}

func TestEveryStatusOfAServerHasItsMeaning(t *testing.T) {
	t.Parallel()
	all := serverStatuses(t)
	require.Greater(t, len(all), 60, "the statuses were not found")
	for name, answer := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "ErrGRPCRequestTooManyRequests" {
				// It is waited out, up to the deadline: by a clock that waits for nobody.
				synctest.Test(t, func(t *testing.T) { requireMeaning(t, name, answer) })
				return
			}
			requireMeaning(t, name, answer)
		})
	}
	for name := range unknownOutcome {
		require.Contains(t, all, name)
	}
}

// requireMeaning checks the error of a put that is answered by a status.
func requireMeaning(t *testing.T, name string, answer error) {
	t.Helper()
	c := stubClient(t, &stub{put: func(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
		return nil, answer
	}})
	err := c.Put(t.Context(), "key", nil)
	var e *etcd.Error
	require.ErrorAs(t, err, &e)
	assert.True(t, e.Sent)
	assert.Equal(t, unknownOutcome[name], etcd.MaybeApplied(err))
	assert.NotErrorIs(t, err, etcd.ErrServer)
	assert.True(t, anyIs(err, sentinels), "%v falls under no sentinel", err)
	assert.NotContains(t, err.Error(), "rpc error")
	if name != "ErrGRPCRequestTooManyRequests" {
		assert.Equal(t, status.Code(answer), status.Code(e.Err), "the status can be reached")
	}
}

func anyIs(err error, targets []error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func TestStatusFallsUnderItsSentinel(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ answer, want error }{
		{rpctypes.ErrGRPCEmptyKey, etcd.ErrEmptyKey},
		{rpctypes.ErrGRPCKeyNotFound, etcd.ErrKeyNotFound},
		{rpctypes.ErrGRPCTooManyOps, etcd.ErrTooManyOps},
		{rpctypes.ErrGRPCDuplicateKey, etcd.ErrDuplicateKey},
		{rpctypes.ErrGRPCRequestTooLarge, etcd.ErrTooLarge},
		{rpctypes.ErrGRPCCompacted, etcd.ErrCompacted},
		{rpctypes.ErrGRPCFutureRev, etcd.ErrFutureRevision},
		{rpctypes.ErrGRPCNoSpace, etcd.ErrNoSpace},
		{rpctypes.ErrGRPCLeaseNotFound, etcd.ErrLeaseNotFound},
		{rpctypes.ErrGRPCLeaseExist, etcd.ErrLeaseExists},
		{rpctypes.ErrGRPCLeaseTTLTooLarge, etcd.ErrInvalidTTL},
		{rpctypes.ErrGRPCCorrupt, etcd.ErrClusterCorrupt},
		{rpctypes.ErrGRPCAuthFailed, etcd.ErrAuthFailed},
		{rpctypes.ErrGRPCPermissionDenied, etcd.ErrPermissionDenied},
		{rpctypes.ErrGRPCUserEmpty, etcd.ErrUnauthenticated},
		{rpctypes.ErrGRPCInvalidAuthToken, etcd.ErrUnauthenticated},
		{rpctypes.ErrGRPCNoLeader, etcd.ErrNoLeader},
		{rpctypes.ErrGRPCNoLeader, etcd.ErrUnavailable},
		{rpctypes.ErrGRPCTimeout, etcd.ErrTimeout},
		{rpctypes.ErrGRPCTimeout, etcd.ErrUnavailable},
		{rpctypes.ErrGRPCLeaderChanged, etcd.ErrUnavailable},
		{rpctypes.ErrGRPCNotSupportedForLearner, etcd.ErrFailedPrecondition},
		{status.Error(codes.ResourceExhausted, "grpc: received message larger than max (3 vs. 2)"), etcd.ErrTooLarge},
		{status.Error(codes.ResourceExhausted, "grpc: trying to send message larger than max (3 vs. 2)"), etcd.ErrTooLarge},
		{status.Error(codes.Unavailable, "proxy"), etcd.ErrUnavailable},
		{status.Error(codes.Canceled, "proxy"), etcd.ErrUnavailable},
		{status.Error(codes.DeadlineExceeded, "proxy"), etcd.ErrTimeout},
		{status.Error(codes.PermissionDenied, "proxy"), etcd.ErrPermissionDenied},
		{status.Error(codes.Unauthenticated, "proxy"), etcd.ErrUnauthenticated},
		{status.Error(codes.Unimplemented, "proxy"), etcd.ErrFailedPrecondition},
		{status.Error(codes.Unknown, "proxy"), etcd.ErrServer},
	} {
		c := stubClient(t, &stub{put: func(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
			return nil, tc.answer
		}})
		require.ErrorIs(t, c.Put(t.Context(), "key", nil), tc.want, tc.answer)
	}
}

// What a proxy says of its own connections is not about this client.
func TestProxysClosedConnectionIsntAClosedClient(t *testing.T) {
	t.Parallel()
	c := stubClient(t, &stub{put: func(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
		return nil, status.Error(codes.Canceled, "grpc: the client connection is closing")
	}})
	err := c.Put(t.Context(), "key", nil)
	require.NotErrorIs(t, err, etcd.ErrClosed)
	require.ErrorIs(t, err, etcd.ErrUnavailable)
	require.True(t, etcd.MaybeApplied(err))
}
