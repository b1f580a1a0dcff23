// Package rpc carries one request of a message to the cluster: whether it is tried again,
// where, and what became of it. Of this module it may import dial and errs, and of others
// gRPC, the protocol and clientv3, whose connection it is.
package rpc

import (
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/internal/errs"
)

// Remedy says what may be done about a failed attempt.
type Remedy int

const (
	// GiveUp means that the same request would fail again, or it may have been applied.
	GiveUp Remedy = iota
	// RetryRead means that sending it again may help, and that only a read may be.
	RetryRead
	// RetryAny means that the server refused the request for the moment and certainly
	// did not apply it, so that a write may be sent again too.
	RetryAny
	// RetryElsewhere means that this member can't serve the request, another one can.
	RetryElsewhere
	// RefreshToken means that the token is not valid (any more); with a new one the same
	// request may be sent again.
	RefreshToken
)

// Verdict is what the status of an RPC means.
type Verdict struct {
	Kind   error
	Remedy Remedy
	// Refused says that the server certainly did not apply the request.
	Refused bool
	// Own says that these are etcd's words, and not those of somebody in
	// between, or of another server altogether.
	Own bool
	// avoid says that the endpoint can't serve other requests either.
	avoid bool
}

// Elsewhere reports whether other requests better go to another endpoint for a
// while.
func (a Verdict) Elsewhere() bool { return a.avoid || a.Remedy == RetryElsewhere }

// Rounds returns how often each endpoint is asked where the remedy is
// retryElsewhere. What isn't etcd doesn't become it.
func (a Verdict) Rounds() int {
	if a.Own {
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
var serverVerdicts = func() map[string]Verdict {
	m := make(map[string]Verdict)
	add := func(a Verdict, errs ...error) {
		a.Own = true
		for _, err := range errs {
			m[status.Convert(err).Message()] = a
		}
	}
	refused := func(kind error) Verdict { return Verdict{Kind: kind, Refused: true} }

	add(refused(errs.ErrEmptyKey), rpctypes.ErrGRPCEmptyKey)
	add(refused(errs.ErrKeyNotFound), rpctypes.ErrGRPCKeyNotFound)
	add(refused(errs.ErrTooManyOps), rpctypes.ErrGRPCTooManyOps)
	add(refused(errs.ErrDuplicateKey), rpctypes.ErrGRPCDuplicateKey)
	add(refused(errs.ErrTooLarge), rpctypes.ErrGRPCRequestTooLarge)
	add(refused(errs.ErrCompacted), rpctypes.ErrGRPCCompacted)
	add(refused(errs.ErrFutureRevision), rpctypes.ErrGRPCFutureRev)
	add(refused(errs.ErrLeaseNotFound), rpctypes.ErrGRPCLeaseNotFound)
	add(refused(errs.ErrLeaseExists), rpctypes.ErrGRPCLeaseExist)
	add(refused(errs.ErrInvalidTTL), rpctypes.ErrGRPCLeaseTTLTooLarge)
	add(refused(errs.ErrClusterCorrupt), rpctypes.ErrGRPCCorrupt)
	add(refused(errs.ErrAuthFailed), rpctypes.ErrGRPCAuthFailed)
	add(refused(errs.ErrPermissionDenied), rpctypes.ErrGRPCPermissionDenied)
	add(refused(errs.ErrInvalidArgument),
		rpctypes.ErrGRPCValueProvided, rpctypes.ErrGRPCLeaseProvided,
		rpctypes.ErrGRPCInvalidClientAPIVersion, rpctypes.ErrGRPCInvalidSortOption,
		rpctypes.ErrGRPCMemberBadURLs, rpctypes.ErrGRPCRoleEmpty,
		rpctypes.ErrGRPCPermissionNotGiven, rpctypes.ErrGRPCInvalidAuthMgmt,
		rpctypes.ErrGRPCWrongDowngradeVersionFormat, rpctypes.ErrGRPCInvalidDowngradeTargetVersion)
	add(refused(errs.ErrFailedPrecondition),
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

	add(Verdict{Kind: errs.ErrFailedPrecondition, Remedy: RetryElsewhere, Refused: true}, rpctypes.ErrGRPCNotSupportedForLearner)
	add(Verdict{Kind: errs.ErrTooManyRequests, Remedy: RetryAny, Refused: true}, rpctypes.ErrGRPCRequestTooManyRequests)
	add(Verdict{Kind: errs.ErrUnauthenticated, Remedy: RefreshToken, Refused: true},
		rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCUserEmpty)

	// The write that exceeds the quota is applied, and answered by this all the
	// same (server/v3/etcdserver/apply/quota.go); those after it are refused.
	add(Verdict{Kind: errs.ErrNoSpace}, rpctypes.ErrGRPCNoSpace)

	// The server gave up waiting; the proposal may still be applied.
	add(Verdict{Kind: errs.WithKind(errs.ErrUnavailable, errs.ErrNoLeader), Remedy: RetryRead, avoid: true}, rpctypes.ErrGRPCNoLeader)
	add(Verdict{Kind: errs.ErrUnavailable, Remedy: RetryRead},
		rpctypes.ErrGRPCLeaderChanged, rpctypes.ErrGRPCStopped, rpctypes.ErrGRPCUnhealthy)
	add(Verdict{Kind: errs.WithKind(errs.ErrUnavailable, errs.ErrTimeout), Remedy: RetryRead},
		rpctypes.ErrGRPCTimeout, rpctypes.ErrGRPCTimeoutDueToLeaderFail,
		rpctypes.ErrGRPCTimeoutDueToConnectionLost, rpctypes.ErrGRPCTimeoutWaitAppliedIndex,
		rpctypes.ErrGRPCDeadlineExceeded)
	add(Verdict{Kind: errs.ErrUnavailable, Remedy: RetryRead}, rpctypes.ErrGRPCCanceled, rpctypes.ErrGRPCWatchCanceled)
	addUnmapped(m)
	return m
}()

// codeVerdicts holds what a code means where the message is not etcd's. None of
// them is a proof that a request was not applied, nor that a cluster answered.
var codeVerdicts = map[codes.Code]Verdict{
	codes.Canceled:           {Kind: errs.ErrUnavailable, Remedy: RetryRead},
	codes.DeadlineExceeded:   {Kind: errs.ErrTimeout, Remedy: RetryRead},
	codes.Aborted:            {Kind: errs.ErrUnavailable, Remedy: RetryRead},
	codes.Unavailable:        {Kind: errs.ErrUnavailable, Remedy: RetryRead},
	codes.Internal:           {Kind: errs.ErrServer, Remedy: RetryRead},
	codes.InvalidArgument:    {Kind: errs.ErrInvalidArgument, Remedy: RetryElsewhere},
	codes.OutOfRange:         {Kind: errs.ErrInvalidArgument, Remedy: RetryElsewhere},
	codes.PermissionDenied:   {Kind: errs.ErrPermissionDenied, Remedy: RetryElsewhere},
	codes.Unauthenticated:    {Kind: errs.ErrUnauthenticated, Remedy: RetryElsewhere},
	codes.FailedPrecondition: {Kind: errs.ErrFailedPrecondition, Remedy: RetryElsewhere},
	codes.Unimplemented:      {Kind: errs.ErrFailedPrecondition, Remedy: RetryElsewhere},
}

// WatchVerdict returns what the reason means for which the server ended a watch.
// The server sends it as text: a message of its own, or the text of a status
// around one.
func WatchVerdict(reason string) (Verdict, error) {
	msg := reason
	if _, desc, ok := strings.Cut(reason, " desc = "); ok {
		msg = desc
	}
	a, ok := ownVerdict(msg)
	if !ok {
		a = Verdict{Kind: errs.ErrServer}
	}
	if msg == "" {
		msg = "watch ended without a reason"
	}
	return a, errs.WithKind(a.Kind, errors.New(strings.TrimPrefix(msg, "etcdserver: ")))
}

// ownVerdict finds what etcd says by msg. A transaction says which of its operations
// failed (txn.go, applyTxn), and then why.
func ownVerdict(msg string) (Verdict, bool) {
	if _, why, ok := strings.Cut(strings.TrimPrefix(msg, "applyTxn: "), ": "); ok && strings.HasPrefix(msg, "applyTxn: failed") {
		msg = why
	}
	a, ok := serverVerdicts[msg]
	return a, ok
}

// Interpret returns what err, the error of an RPC, means.
func Interpret(err error) Verdict {
	if _, ok := errors.AsType[*credentialsError](err); ok {
		return Verdict{Kind: errs.ErrCredentials}
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
		return Verdict{Kind: errs.ErrTooLarge}
	case st.Code() == codes.Unimplemented && strings.HasPrefix(msg, "unknown service etcdserverpb."):
		return Verdict{Kind: errs.ErrNotEtcd, Remedy: RetryElsewhere}
	}
	// gRPC's own words for a stream that is younger than the last one which the
	// other end has processed, as it says when it wants no more requests on a
	// connection. nginx does so every keepalive_requests.
	if st.Code() == codes.Unavailable && st.Message() == "the connection is draining" {
		return Verdict{Kind: errs.ErrUnavailable, Remedy: RetryAny, Refused: true}
	}
	if a, ok := codeVerdicts[st.Code()]; ok {
		return a
	}
	return Verdict{Kind: errs.ErrServer, Remedy: RetryElsewhere}
}

// SaidByEtcd reports whether the last word of err, the error of a request, is
// etcd's own.
func SaidByEtcd(err error) bool {
	said, ok := errors.AsType[*rpcError](err)
	return ok && said.own
}

// IsClosing reports whether err says that the connection was closed from this
// side.
func IsClosing(err error) bool {
	st, _ := status.FromError(err)
	return st.Code() == codes.Canceled && strings.Contains(st.Message(), "client connection is closing")
}

// Describe returns an error for a failed RPC with the server's words and
// without gRPC's wrapping.
func Describe(kind, err error) error {
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

// credentialsError is the error of a function of the user. It is no status, and
// what it belongs to was not sent.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }

func (e *credentialsError) Unwrap() error { return e.err }

// credentialsFailure returns err as that of a function of the user.
func credentialsFailure(err error) error { return &credentialsError{err} }
