package rpc

import (
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/blueprint-go/etcd/internal/errs"
)

// addUnmapped adds to answers the errors of the server's own packages that it
// has forgotten to translate, in one version or another: they come by their own
// text, under code Unknown, or as the reason for the end of a watch.
//
// Source: auth, raft, lease, mvcc and etcdserver of etcd 3.4.16, 3.5.21, 3.6.16
// and 3.7.3. A test walks those packages of 3.7.
func addUnmapped(answers map[string]Verdict) {
	for msg, a := range unmapped {
		a.Own = true
		answers[msg] = a
	}
	for msg, err := range untranslated {
		answers[msg] = answers[status.Convert(err).Message()]
	}
}

// unmapped are the errors that no version translates.
var unmapped = map[string]Verdict{
	// Raft answers so where it has not appended the proposal and hasn't sent it to
	// anybody: there is no leader, the leader is handing over, or too much is
	// waiting (raft.go, stepLeader, stepFollower and stepCandidate). A proposal that
	// is dropped by another member is not answered at all.
	"raft proposal dropped": {Kind: errs.ErrUnavailable, Remedy: RetryAny, Refused: true},
	// The same text, before and after the proposal was taken in (node.go,
	// stepWithWaitOption).
	"raft: stopped": {Kind: errs.ErrUnavailable, Remedy: RetryRead},
	// 3.4 only: the server waited for a proposal whose client had gone.
	"etcdserver: request cancelled": {Kind: errs.ErrUnavailable, Remedy: RetryRead},

	// A leader that is not sure to be one (any more) says so of a renewal, for
	// another member to be asked (v3_server.go, LeaseRenew).
	"not a primary lessor": {Kind: errs.ErrUnavailable, Remedy: RetryElsewhere, Refused: true},
	"waiting for node to catch up its applied index has timed out": {Kind: errs.WithKind(errs.ErrUnavailable, errs.ErrTimeout), Remedy: RetryRead},
	"etcdserver: request timed out, leader transfer took too long": {Kind: errs.WithKind(errs.ErrUnavailable, errs.ErrTimeout), Remedy: RetryRead},

	"auth: authentication failed, password was given for no password user": {Kind: errs.ErrAuthFailed, Refused: true},
	// The server has no key to sign tokens with, so that they come from elsewhere.
	"auth: token signing attempted with verify-only key": {Kind: errs.ErrFailedPrecondition, Refused: true},
	// Authentication was switched off between the check and the token.
	"failed to assign": {Kind: errs.ErrUnavailable, Remedy: RetryAny, Refused: true},

	"mvcc: watcher range is empty":                          {Kind: errs.ErrInvalidArgument, Refused: true},
	"mvcc: duplicate watch ID provided on the WatchStream":  {Kind: errs.ErrInvalidArgument, Refused: true},
	"mvcc: watcher does not exist":                          {Kind: errs.ErrServer, Refused: true},
	"etcdserver: unknown method":                            {Kind: errs.ErrFailedPrecondition, Refused: true},
	"RangeStream does not support custom sort orders":       {Kind: errs.ErrInvalidArgument, Refused: true},
	"RangeStream does not support revision filters":         {Kind: errs.ErrInvalidArgument, Refused: true},
	"RangeStream is not supported by the KV client adapter": {Kind: errs.ErrFailedPrecondition, Refused: true},
	"RangeStream is not supported by the gRPC proxy":        {Kind: errs.ErrFailedPrecondition, Refused: true},
}

// untranslated are errors that one version translates and another does not, or
// does in one place only, by their own texts. 3.4 forgets the old revision.
var untranslated = map[string]error{
	"auth: revision in header is old":                          rpctypes.ErrGRPCAuthOldRevision,
	"auth: invalid auth token":                                 rpctypes.ErrGRPCInvalidAuthToken,
	"auth: user name is empty":                                 rpctypes.ErrGRPCUserEmpty,
	"auth: authentication failed, invalid user ID or password": rpctypes.ErrGRPCAuthFailed,
	"auth: permission denied":                                  rpctypes.ErrGRPCPermissionDenied,
	"auth: permission not given":                               rpctypes.ErrGRPCPermissionNotGiven,
	"auth: authentication is not enabled":                      rpctypes.ErrGRPCAuthNotEnabled,
	"auth: user not found":                                     rpctypes.ErrGRPCUserNotFound,
	"auth: user already exists":                                rpctypes.ErrGRPCUserAlreadyExist,
	"auth: role not found":                                     rpctypes.ErrGRPCRoleNotFound,
	"auth: role already exists":                                rpctypes.ErrGRPCRoleAlreadyExist,
	"auth: role name is empty":                                 rpctypes.ErrGRPCRoleEmpty,
	"auth: role is not granted to the user":                    rpctypes.ErrGRPCRoleNotGranted,
	"auth: permission is not granted to the role":              rpctypes.ErrGRPCPermissionNotGranted,
	"auth: root user does not exist":                           rpctypes.ErrGRPCRootUserNotExist,
	"auth: root user does not have root role":                  rpctypes.ErrGRPCRootRoleNotExist,
	"auth: invalid auth management":                            rpctypes.ErrGRPCInvalidAuthMgmt,
	"lease not found":                                          rpctypes.ErrGRPCLeaseNotFound,
	"lease already exists":                                     rpctypes.ErrGRPCLeaseExist,
	"too large lease TTL":                                      rpctypes.ErrGRPCLeaseTTLTooLarge,
	"mvcc: required revision has been compacted":               rpctypes.ErrGRPCCompacted,
	"mvcc: required revision is a future revision":             rpctypes.ErrGRPCFutureRev,
	"etcdserver: no space":                                     rpctypes.ErrGRPCNoSpace,
	"membership: ID removed":                                   rpctypes.ErrGRPCMemberNotFound,
	"membership: ID not found":                                 rpctypes.ErrGRPCMemberNotFound,
	"membership: ID exists":                                    rpctypes.ErrGRPCMemberExist,
	"membership: peerURL exists":                               rpctypes.ErrGRPCPeerURLExist,
	"membership: can only promote a learner member":            rpctypes.ErrGRPCMemberNotLearner,
	"membership: too many learner members in cluster":          rpctypes.ErrGRPCTooManyLearners,
}
