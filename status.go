package etcd

import (
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/internal/errs"
)

// remedy says what may be done about a failed attempt.
type remedy int

const (
	// giveUp: the same request would fail again, or it may have been applied.
	giveUp remedy = iota
	// retryRead: sending it again may help; only a read may be sent again.
	retryRead
	// retryAny: the server refused the request for the moment and certainly
	// did not apply it, so that a write may be sent again too.
	retryAny
	// retryElsewhere: this member can't serve the request, another one can.
	retryElsewhere
	// refreshToken: the token is not valid (any more); with a new one the same
	// request may be sent again.
	refreshToken
)

// verdict is what the status of an RPC means.
type verdict struct {
	kind   error
	remedy remedy
	// refused tells that the server certainly did not apply the request.
	refused bool
	// own tells that these are etcd's words, and not those of somebody in
	// between, or of another server altogether.
	own bool
	// avoid tells that the endpoint can't serve other requests either.
	avoid bool
}

// elsewhere reports whether other requests better go to another endpoint for a
// while.
func (a verdict) elsewhere() bool { return a.avoid || a.remedy == retryElsewhere }

// rounds returns how often each endpoint is asked where the remedy is
// retryElsewhere. What isn't etcd doesn't become it.
func (a verdict) rounds() int {
	if a.own {
		return 2
	}
	return 1
}

// serverVerdicts holds every status that an etcd server answers to the requests
// of this package, by its message: the codes are shared by answers that must be
// told apart. A proxy's own answer carries the same codes but never these
// messages, and says nothing about whether the request was applied.
//
// Source: api/v3/v3rpc/rpctypes, and the packages of the server for what is not
// there (unmapped.go). Tests walk them for completeness.
var serverVerdicts = func() map[string]verdict {
	m := make(map[string]verdict)
	add := func(a verdict, errs ...error) {
		a.own = true
		for _, err := range errs {
			m[status.Convert(err).Message()] = a
		}
	}
	refused := func(kind error) verdict { return verdict{kind: kind, refused: true} }

	add(refused(ErrEmptyKey), rpctypes.ErrGRPCEmptyKey)
	add(refused(ErrKeyNotFound), rpctypes.ErrGRPCKeyNotFound)
	add(refused(ErrTooManyOps), rpctypes.ErrGRPCTooManyOps)
	add(refused(ErrDuplicateKey), rpctypes.ErrGRPCDuplicateKey)
	add(refused(ErrTooLarge), rpctypes.ErrGRPCRequestTooLarge)
	add(refused(ErrCompacted), rpctypes.ErrGRPCCompacted)
	add(refused(ErrFutureRevision), rpctypes.ErrGRPCFutureRev)
	add(refused(ErrLeaseNotFound), rpctypes.ErrGRPCLeaseNotFound)
	add(refused(ErrLeaseExists), rpctypes.ErrGRPCLeaseExist)
	add(refused(ErrInvalidTTL), rpctypes.ErrGRPCLeaseTTLTooLarge)
	add(refused(ErrClusterCorrupt), rpctypes.ErrGRPCCorrupt)
	add(refused(ErrAuthFailed), rpctypes.ErrGRPCAuthFailed)
	add(refused(ErrPermissionDenied), rpctypes.ErrGRPCPermissionDenied)
	add(refused(ErrInvalidArgument),
		rpctypes.ErrGRPCValueProvided, rpctypes.ErrGRPCLeaseProvided,
		rpctypes.ErrGRPCInvalidClientAPIVersion, rpctypes.ErrGRPCInvalidSortOption,
		rpctypes.ErrGRPCMemberBadURLs, rpctypes.ErrGRPCRoleEmpty,
		rpctypes.ErrGRPCPermissionNotGiven, rpctypes.ErrGRPCInvalidAuthMgmt,
		rpctypes.ErrGRPCWrongDowngradeVersionFormat, rpctypes.ErrGRPCInvalidDowngradeTargetVersion)
	add(refused(ErrFailedPrecondition),
		rpctypes.ErrGRPCMemberExist, rpctypes.ErrGRPCPeerURLExist,
		rpctypes.ErrGRPCMemberNotEnoughStarted, rpctypes.ErrGRPCMemberNotFound,
		rpctypes.ErrGRPCMemberNotLearner, rpctypes.ErrGRPCLearnerNotReady,
		rpctypes.ErrGRPCTooManyLearners, rpctypes.ErrGRPCClusterIDMismatch,
		rpctypes.ErrGRPCRootUserNotExist, rpctypes.ErrGRPCRootRoleNotExist,
		rpctypes.ErrGRPCUserAlreadyExist, rpctypes.ErrGRPCUserNotFound,
		rpctypes.ErrGRPCRoleAlreadyExist, rpctypes.ErrGRPCRoleNotFound,
		rpctypes.ErrGRPCRoleNotGranted, rpctypes.ErrGRPCPermissionNotGranted,
		rpctypes.ErrGRPCAuthNotEnabled, rpctypes.ErrGRPCNotLeader,
		rpctypes.ErrGRPCNotCapable, rpctypes.ErrGRPCBadLeaderTransferee,
		rpctypes.ErrGRPCClusterVersionUnavailable, rpctypes.ErrGRPCDowngradeInProcess,
		rpctypes.ErrGRPCNoInflightDowngrade)

	add(verdict{kind: ErrFailedPrecondition, remedy: retryElsewhere, refused: true}, rpctypes.ErrGRPCNotSupportedForLearner)
	add(verdict{kind: ErrTooManyRequests, remedy: retryAny, refused: true}, rpctypes.ErrGRPCRequestTooManyRequests)
	add(verdict{kind: ErrUnauthenticated, remedy: refreshToken, refused: true},
		rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCUserEmpty)

	// The write that exceeds the quota is applied, and answered by this all the
	// same (server/v3/etcdserver/apply/quota.go); those after it are refused.
	add(verdict{kind: ErrNoSpace}, rpctypes.ErrGRPCNoSpace)

	// The server gave up waiting; the proposal may still be applied.
	add(verdict{kind: errs.WithKind(ErrUnavailable, ErrNoLeader), remedy: retryRead, avoid: true}, rpctypes.ErrGRPCNoLeader)
	add(verdict{kind: ErrUnavailable, remedy: retryRead},
		rpctypes.ErrGRPCLeaderChanged, rpctypes.ErrGRPCStopped, rpctypes.ErrGRPCUnhealthy)
	add(verdict{kind: errs.WithKind(ErrUnavailable, ErrTimeout), remedy: retryRead},
		rpctypes.ErrGRPCTimeout, rpctypes.ErrGRPCTimeoutDueToLeaderFail,
		rpctypes.ErrGRPCTimeoutDueToConnectionLost, rpctypes.ErrGRPCTimeoutWaitAppliedIndex,
		rpctypes.ErrGRPCDeadlineExceeded)
	add(verdict{kind: ErrUnavailable, remedy: retryRead}, rpctypes.ErrGRPCCanceled, rpctypes.ErrGRPCWatchCanceled)
	addUnmapped(m)
	return m
}()

// codeVerdicts holds what a code means where the message is not etcd's. None of
// them is a proof that a request was not applied, nor that a cluster answered.
var codeVerdicts = map[codes.Code]verdict{
	codes.Canceled:           {kind: ErrUnavailable, remedy: retryRead},
	codes.DeadlineExceeded:   {kind: ErrTimeout, remedy: retryRead},
	codes.Aborted:            {kind: ErrUnavailable, remedy: retryRead},
	codes.Unavailable:        {kind: ErrUnavailable, remedy: retryRead},
	codes.Internal:           {kind: ErrServer, remedy: retryRead},
	codes.InvalidArgument:    {kind: ErrInvalidArgument, remedy: retryElsewhere},
	codes.OutOfRange:         {kind: ErrInvalidArgument, remedy: retryElsewhere},
	codes.PermissionDenied:   {kind: ErrPermissionDenied, remedy: retryElsewhere},
	codes.Unauthenticated:    {kind: ErrUnauthenticated, remedy: retryElsewhere},
	codes.FailedPrecondition: {kind: ErrFailedPrecondition, remedy: retryElsewhere},
	codes.Unimplemented:      {kind: ErrFailedPrecondition, remedy: retryElsewhere},
}

// watchVerdict returns what the reason means for which the server ended a watch.
// The server sends it as text: a message of its own, or the text of a status
// around one.
func watchVerdict(reason string) (verdict, error) {
	msg := reason
	if _, desc, ok := strings.Cut(reason, " desc = "); ok {
		msg = desc
	}
	a, ok := ownVerdict(msg)
	if !ok {
		a = verdict{kind: ErrServer}
	}
	if msg == "" {
		msg = "watch ended without a reason"
	}
	return a, errs.WithKind(a.kind, errors.New(strings.TrimPrefix(msg, "etcdserver: ")))
}

// ownVerdict finds what etcd says by msg. A transaction says which of its operations
// failed (txn.go, applyTxn), and then why.
func ownVerdict(msg string) (verdict, bool) {
	if _, why, ok := strings.Cut(strings.TrimPrefix(msg, "applyTxn: "), ": "); ok && strings.HasPrefix(msg, "applyTxn: failed") {
		msg = why
	}
	a, ok := serverVerdicts[msg]
	return a, ok
}

// interpret returns what err, the error of an RPC, means.
func interpret(err error) verdict {
	if _, ok := errors.AsType[*credentialsError](err); ok {
		return verdict{kind: ErrCredentials}
	}
	st, _ := status.FromError(err)
	msg := st.Message()
	if a, ok := ownVerdict(msg); ok {
		return a
	}
	if web, ok := webStatus(msg); ok {
		return web.verdict()
	}
	switch {
	case st.Code() == codes.ResourceExhausted && strings.Contains(msg, " message larger than max"):
		// gRPC's own size checks have no code of their own. They are made at both
		// ends and don't say at which: too large may be the request or its answer.
		return verdict{kind: ErrTooLarge}
	case st.Code() == codes.Unimplemented && strings.HasPrefix(msg, "unknown service etcdserverpb."):
		return verdict{kind: ErrNotEtcd, remedy: retryElsewhere}
	}
	// gRPC's own words for a stream that is younger than the last one which the
	// other end has processed, as it says when it wants no more requests on a
	// connection. nginx does so every keepalive_requests.
	if st.Code() == codes.Unavailable && st.Message() == "the connection is draining" {
		return verdict{kind: ErrUnavailable, remedy: retryAny, refused: true}
	}
	if a, ok := codeVerdicts[st.Code()]; ok {
		return a
	}
	return verdict{kind: ErrServer, remedy: retryElsewhere}
}

// saidByEtcd reports whether the last word of err, the error of a request, is
// etcd's own.
func saidByEtcd(err error) bool {
	said, ok := errors.AsType[*rpcError](err)
	return ok && said.own
}

// isClosing reports whether err says that the connection was closed from this
// side.
func isClosing(err error) bool {
	st, _ := status.FromError(err)
	return st.Code() == codes.Canceled && strings.Contains(st.Message(), "client connection is closing")
}

// describe returns an error for a failed RPC with the server's words and
// without gRPC's wrapping.
func describe(kind, err error) error {
	if own, ok := errors.AsType[*credentialsError](err); ok {
		return own.err
	}
	st, ok := status.FromError(err)
	if !ok {
		return errs.WithKind(kind, err)
	}
	msg := st.Message()
	if _, own := ownVerdict(msg); own {
		return errs.WithKind(kind, &rpcError{code: st.Code(), msg: strings.TrimPrefix(msg, "etcdserver: "), own: true, err: err})
	}
	if web, ok := webStatus(msg); ok {
		msg = web.String()
	}
	return errs.WithKind(kind, &rpcError{code: st.Code(), msg: firstLine(msg), err: err})
}

// rpcError keeps an RPC's status reachable (status.FromError and
// errors.As find it) under a text without "rpc error: code = …".
type rpcError struct {
	code codes.Code
	msg  string
	own  bool // etcd's words
	err  error
}

func (e *rpcError) Error() string { return e.msg }

// Unwrap returns nil for what isn't etcd's: gRPC quotes the pages of web servers.
func (e *rpcError) Unwrap() error {
	if e.own {
		return e.err
	}
	return nil
}

// GRPCStatus returns the code that was answered.
func (e *rpcError) GRPCStatus() *status.Status {
	if e.own {
		return status.Convert(e.err)
	}
	return status.New(e.code, e.msg)
}
