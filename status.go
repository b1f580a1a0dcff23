package etcd

import (
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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

// answer is what the status of an RPC means.
type answer struct {
	kind   error
	remedy remedy
	// refused tells that the server certainly did not apply the request.
	refused bool
}

// serverAnswers holds every status that an etcd server answers to the requests
// of this package, by its message: the codes are shared by answers that must be
// told apart. A proxy's own answer carries the same codes but never these
// messages, and says nothing about whether the request was applied.
//
// Source: api/v3/v3rpc/rpctypes. A test walks that package for completeness.
var serverAnswers = func() map[string]answer {
	m := make(map[string]answer)
	add := func(a answer, errs ...error) {
		for _, err := range errs {
			m[status.Convert(err).Message()] = a
		}
	}
	refused := func(kind error) answer { return answer{kind: kind, refused: true} }

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

	add(answer{ErrFailedPrecondition, retryElsewhere, true}, rpctypes.ErrGRPCNotSupportedForLearner)
	add(answer{ErrTooManyRequests, retryAny, true}, rpctypes.ErrGRPCRequestTooManyRequests)
	add(answer{ErrUnauthenticated, refreshToken, true},
		rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCUserEmpty)

	// The write that exceeds the quota is applied, and answered by this all the
	// same (server/v3/etcdserver/apply/quota.go); those after it are refused.
	add(answer{kind: ErrNoSpace}, rpctypes.ErrGRPCNoSpace)

	// The server gave up waiting; the proposal may still be applied.
	add(answer{withKind(ErrUnavailable, ErrNoLeader), retryRead, false}, rpctypes.ErrGRPCNoLeader)
	add(answer{ErrUnavailable, retryRead, false},
		rpctypes.ErrGRPCLeaderChanged, rpctypes.ErrGRPCStopped, rpctypes.ErrGRPCUnhealthy)
	add(answer{withKind(ErrUnavailable, ErrTimeout), retryRead, false},
		rpctypes.ErrGRPCTimeout, rpctypes.ErrGRPCTimeoutDueToLeaderFail,
		rpctypes.ErrGRPCTimeoutDueToConnectionLost, rpctypes.ErrGRPCTimeoutWaitAppliedIndex,
		rpctypes.ErrGRPCDeadlineExceeded)
	add(answer{ErrUnavailable, retryRead, false}, rpctypes.ErrGRPCCanceled, rpctypes.ErrGRPCWatchCanceled)
	return m
}()

// codeAnswers holds what a code means where the message is not the server's.
// None of them is a proof that a request was not applied.
var codeAnswers = map[codes.Code]answer{
	codes.Canceled:           {kind: ErrUnavailable, remedy: retryRead},
	codes.DeadlineExceeded:   {kind: ErrTimeout, remedy: retryRead},
	codes.Aborted:            {kind: ErrUnavailable, remedy: retryRead},
	codes.Unavailable:        {kind: ErrUnavailable, remedy: retryRead},
	codes.Internal:           {kind: ErrServer, remedy: retryRead},
	codes.InvalidArgument:    {kind: ErrInvalidArgument},
	codes.OutOfRange:         {kind: ErrInvalidArgument},
	codes.PermissionDenied:   {kind: ErrPermissionDenied},
	codes.Unauthenticated:    {kind: ErrUnauthenticated},
	codes.FailedPrecondition: {kind: ErrFailedPrecondition},
	codes.Unimplemented:      {kind: ErrFailedPrecondition},
	codes.ResourceExhausted:  {kind: ErrServer},
}

// watchAnswer returns what the reason means for which the server ended a watch.
// The server sends it as text: a message of its own, or the text of a status
// around one.
func watchAnswer(reason string) (answer, error) {
	msg := reason
	if _, desc, ok := strings.Cut(reason, " desc = "); ok {
		msg = desc
	}
	a, ok := serverAnswers[msg]
	if !ok {
		a = answer{kind: ErrServer}
	}
	if msg == "" {
		msg = "watch ended without a reason"
	}
	return a, withKind(a.kind, errors.New(strings.TrimPrefix(msg, "etcdserver: ")))
}

// interpret returns what err, the error of an RPC, means.
func interpret(err error) answer {
	st, _ := status.FromError(err)
	if a, ok := serverAnswers[st.Message()]; ok {
		return a
	}
	// gRPC's own size checks have no code of their own. They are made at both
	// ends and don't say at which: too large may be the request or its answer.
	if st.Code() == codes.ResourceExhausted && strings.Contains(st.Message(), " message larger than max") {
		return answer{kind: ErrTooLarge}
	}
	// gRPC's own words for a stream that is younger than the last one which the
	// other end has processed, as it says when it wants no more requests on a
	// connection. nginx does so every keepalive_requests.
	if st.Code() == codes.Unavailable && st.Message() == "the connection is draining" {
		return answer{kind: ErrUnavailable, remedy: retryAny, refused: true}
	}
	if a, ok := codeAnswers[st.Code()]; ok {
		return a
	}
	return answer{kind: ErrServer}
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
	st, ok := status.FromError(err)
	if !ok {
		return withKind(kind, err)
	}
	msg := strings.TrimPrefix(st.Message(), "etcdserver: ")
	return withKind(kind, &rpcError{code: st.Code(), msg: msg, err: err})
}

// rpcError keeps an RPC's status reachable (status.FromError and
// errors.As find it) under a text without "rpc error: code = …".
type rpcError struct {
	code codes.Code
	msg  string
	err  error
}

func (e *rpcError) Error() string              { return e.msg }
func (e *rpcError) Unwrap() error              { return e.err }
func (e *rpcError) GRPCStatus() *status.Status { return status.Convert(e.err) }
