package etcd

import (
	"errors"
	"fmt"

	"github.com/blueprint-go/etcd/internal/envelope"
	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/export"
)

// Sentinel errors. Match them with [errors.Is]; the concrete error is usually
// an [*Error] that adds the operation, the key, whether the request was sent
// and the true cause.
var (
	// ErrInvalidConfig is returned by [NewClient] and [Config.Validate]. The
	// error text lists every problem found, not only the first.
	ErrInvalidConfig = errors.New("invalid configuration")

	// ErrNilContext is returned by every call that is given a nil context.
	ErrNilContext = errs.ErrNilContext

	// ErrInvalidArgument is returned when an argument can't be used: a
	// negative limit, a nil operation, a time to live out of range. Nothing
	// was sent. The more specific neighbours are [ErrEmptyKey],
	// [ErrEmptyPrefix], [ErrTooLarge] and [ErrInvalidTTL].
	ErrInvalidArgument = errs.ErrInvalidArgument

	// ErrEmptyKey is returned when a key is the empty string. Not to be
	// confused with [ErrEmptyPrefix].
	ErrEmptyKey = errs.ErrEmptyKey

	// ErrEmptyPrefix is returned for an empty prefix by calls to which it would mean every
	// key of the cluster, or of the namespace: those that delete ([Client.DeletePrefix],
	// [OpDeletePrefix], [OpDeleteRange]), those that watch ([Client.WatchPrefix],
	// [Client.WatchRange], [Client.Events], [Typed.Watch]), and those that open a mirror or
	// a live configuration. WithAllKeys, an option of each of these packages, says that you
	// mean it.
	ErrEmptyPrefix = errors.New("empty prefix")

	// ErrInvalidTTL is returned when a lease's time to live is zero, negative
	// or larger than the server accepts.
	ErrInvalidTTL = errs.ErrInvalidTTL

	// ErrTooLarge is returned when a key, a value or a whole request is larger
	// than the limit (see [Config.MaxRequestBytes] and [Config.MaxKeyBytes]).
	// It is found before anything is sent wherever the client can know. Not to
	// be confused with [ErrTooManyOps].
	ErrTooLarge = errs.ErrTooLarge

	// ErrTooManyOps is returned when a transaction holds more operations than
	// the server allows in one.
	ErrTooManyOps = errs.ErrTooManyOps

	// ErrDuplicateKey is returned when one transaction puts a key twice, or puts and
	// deletes it, at any level of nesting.
	ErrDuplicateKey = errs.ErrDuplicateKey

	// ErrClosed is returned by every call on a closed client, lock or session. The text
	// of the error says which.
	ErrClosed = errs.ErrClosed
)

// errLockClosed is the ErrClosed of a lock whose client is open.
var errLockClosed error = closedError("lock is closed")

// errElectionClosed is the ErrClosed of an election whose client is open.
var errElectionClosed error = closedError("election is closed")

// errIncomplete is the error of an answer that lacks what every server gives.
var errIncomplete = fmt.Errorf("%w: answer lacks parts", ErrServer)

// closedError says that something other than the client was closed.
type closedError string

func (e closedError) Error() string { return string(e) }

// Is reports that e is an ErrClosed.
func (closedError) Is(target error) bool { return target == ErrClosed }

// Errors about data.
var (
	// ErrKeyNotFound is returned by [Client.Get] and its neighbours when the
	// key does not exist.
	ErrKeyNotFound = errs.ErrKeyNotFound

	// ErrKeyExists is returned by [Client.MoveKey] when the destination is taken, by
	// [CreateKeyring] when there is a ring already, and by [Client.Import] with
	// [WithEmptyTarget]. [Client.PutIfNotExists] returns false instead.
	ErrKeyExists = errors.New("key exists")

	// ErrConflict is returned when a key kept changing until the deadline or the last
	// attempt: by [Client.Transact], [Client.Update], [Client.PutIfChanged],
	// [Client.MoveKey], [Client.CopyKey] and puts [WithGuard], and by conditions on
	// encrypted or compressed values. For a key with so many writers, [Client.WithLock]
	// makes them take turns. Nothing was changed, unless [MaybeApplied] reports true: for
	// a last try that the deadline left without an answer, and for a put [WithGuard]
	// whose answer was lost and whose key was deleted before it could be looked for.
	ErrConflict = errors.New("conflict with a concurrent change")

	// ErrConditionFailed is returned by a write [WithCondition] if a condition does not
	// hold. The write is certainly not applied.
	ErrConditionFailed = errors.New("condition does not hold")

	// ErrCompacted is returned when a revision is older than the oldest one
	// the server still has.
	ErrCompacted = errs.ErrCompacted

	// ErrFutureRevision is returned when a revision is newer than the newest
	// one the server has.
	ErrFutureRevision = errs.ErrFutureRevision

	// ErrRevisionRegressed is returned when the cluster's history is not the one seen
	// before: it was restored to an older revision, or another cluster answers. A watch
	// ends with it: read the keys again and start a new one. [StoredKeyring.Err] reports
	// it beside [ErrKeyringReplaced] where the ring went back as well. [Client.Settle]
	// fails with it.
	ErrRevisionRegressed = errors.New("history of the cluster went back")

	// ErrLeaseNotFound is returned when a lease does not exist or no longer
	// exists: it expired or was revoked.
	ErrLeaseNotFound = errs.ErrLeaseNotFound

	// ErrLeaseExists is returned when a lease with that ID exists already.
	ErrLeaseExists = errs.ErrLeaseExists

	// ErrBadExport is returned by [Client.Import] for a file that was cut or
	// changed, or is not an export. The text names the line. Not to be confused
	// with [ErrCorrupt], which is about one value.
	ErrBadExport = export.ErrBad
)

// Errors about values that can't be decoded, wrapped in a [*DecodeError] that names the
// key. Their texts never hold plaintext or ciphertext.
var (
	// ErrInvalidKey is returned by [NewClient] and [NewEncryptionKey] for an
	// encryption key that is nil, empty, shorter than 16 bytes, longer than 4096
	// or all zero, and by [NewKeyring] for keys that make no ring. An unset
	// environment variable never means plaintext.
	ErrInvalidKey = envelope.ErrInvalidKey

	// ErrNoPrimaryKey is returned by writes of a client whose [Keyring] has no
	// primary key: it can only read. Nothing was sent.
	ErrNoPrimaryKey = errors.New("keyring has no primary key")

	// ErrKeyringReplaced is reported by [StoredKeyring.Err], and returned by every change
	// of the ring, when the stored ring can't follow the one that this process has: it is
	// another ring, an older one, or one without the primary key. The keys that the
	// process has stay in use. Err also reports it for a ring that was taken over but
	// lacks keys which were not seen retired: they are kept to decrypt, and changes go
	// on. See [StoredKeyring.Restore] and [StoredKeyring.Adopt].
	ErrKeyringReplaced = errors.New("stored keyring was replaced")

	// ErrKeyringStale is returned by writes when a [StoredKeyring] could not be read for
	// longer than [WithKeyringFreshness] allows: another process may have retired its
	// primary key. Nothing was sent. Its chain says why the ring could not be read, or
	// holds [ErrKeyringReplaced] where another process changed the ring and it has
	// another primary key.
	ErrKeyringStale = errors.New("stored keyring is not known to be current")

	// ErrKeyInUse is returned by [StoredKeyring.RetireKey] and [StoredKeyring.DeleteKey]
	// for a key that values are stored with, or that a process may still write with.
	ErrKeyInUse = errors.New("key is in use")

	// ErrNotEncrypted means that a client which requires encryption met a
	// value without it. The value is not returned.
	ErrNotEncrypted = envelope.ErrNotEncrypted

	// ErrUnsupportedFormat means that a value was written in a later version
	// of the format, or with a suite or flag that this version doesn't know.
	ErrUnsupportedFormat = envelope.ErrUnsupportedFormat

	// ErrCorrupt means that a value's frame is damaged: too short, or its
	// length does not match. Not to be confused with [ErrClusterCorrupt].
	ErrCorrupt = envelope.ErrCorrupt

	// ErrKeyUnavailable means that a key which is kept elsewhere could not be fetched or
	// used: the service behind an [AEAD] or a [KeyProvider] was down, refused, or took
	// too long. Its cause is in the chain. It says nothing about the value; [IsRetryable]
	// reports true for it, and for a write it means that nothing was sent. It never comes
	// in or beside a [*DecodeError], and no call treats such a value as undecodable:
	// lists return it beside the values that they could read, scans and passes end with
	// it, and an event of a watch holds it. Not to be confused with [ErrUnknownKey] and
	// [ErrDecrypt].
	ErrKeyUnavailable = envelope.ErrKeyUnavailable

	// ErrUnknownKey means that a value was encrypted with a key that this
	// client does not hold, and that a [KeyProvider] does not know.
	ErrUnknownKey = envelope.ErrUnknownKey

	// ErrDecrypt means that a value does not open under the key that it names: it was
	// changed, cut, or moved from another key. All causes look alike. For a value of an
	// [AEAD] it is returned only if the AEAD works at that moment.
	ErrDecrypt = envelope.ErrDecrypt

	// ErrEncoding means that [Typed] could not marshal a value, or that a stored one is
	// not what the encoding expects. The encoding's own error is in the chain but not in
	// the text, since it may quote the value.
	ErrEncoding = errors.New("value does not fit its encoding")

	// ErrValueTooLarge means that a decompressed value would exceed 16 MiB, or that those
	// of one call would exceed 64 MiB together, not counting values at most 16 times as
	// long as what is stored.
	ErrValueTooLarge = envelope.ErrValueTooLarge
)

// Errors about access.
var (
	// ErrAuthFailed is returned when the server refused the user name or the
	// password. The server does not say which of the two was wrong.
	ErrAuthFailed = errs.ErrAuthFailed

	// ErrCredentials is returned when [Config.Credentials] or [Config.TokenSource]
	// failed, panicked or returned nothing. The request was not sent. Not to be confused
	// with [ErrAuthFailed], which is the server's answer.
	ErrCredentials = errs.ErrCredentials

	// ErrUnauthenticated is returned when the server requires credentials and got none,
	// or got a token that it does not accept.
	ErrUnauthenticated = errs.ErrUnauthenticated

	// ErrPermissionDenied is returned when the user may not do this to this
	// key, or when something between the client and etcd denied the request: then
	// an [*EndpointError] is in the chain as well.
	ErrPermissionDenied = errs.ErrPermissionDenied
)

// Errors about the cluster.
var (
	// ErrUnavailable is returned when no server could take the request, or the
	// connection was lost while it was under way.
	ErrUnavailable = errs.ErrUnavailable

	// ErrNoLeader is returned when the cluster has no leader. It is also an
	// [ErrUnavailable].
	ErrNoLeader = errs.ErrNoLeader

	// ErrTimeout is returned when the deadline passed first, the caller's or that of
	// [Config.RequestTimeout], or when the server gave up waiting. An error from the
	// caller's side also matches [context.DeadlineExceeded].
	ErrTimeout = errs.ErrTimeout

	// ErrNoSpace is returned for writes when the server's database is full and its
	// NOSPACE alarm is raised. Reads and deletes still work. [MaybeApplied] reports true
	// for it: the server applies the write that exceeds the quota, and answers it like
	// the ones that it refuses from then on.
	ErrNoSpace = errs.ErrNoSpace

	// ErrTooManyRequests is returned when the server sheds load. The request
	// was not applied; it was tried again until the deadline.
	ErrTooManyRequests = errs.ErrTooManyRequests

	// ErrClusterCorrupt is returned when the cluster raised its CORRUPT alarm:
	// members disagree about the data.
	ErrClusterCorrupt = errs.ErrClusterCorrupt

	// ErrFailedPrecondition is returned when the server is not in the state that the
	// request needs: a learner that can't serve it, for example.
	ErrFailedPrecondition = errs.ErrFailedPrecondition

	// ErrServer is returned for an answer of the server that fits none of the others.
	ErrServer = errs.ErrServer
)

// Errors about connecting, each for one endpoint, wrapped in an [*EndpointError]. They
// are in the error of [NewClient], and in that of a request for which no server could be
// reached.
var (
	// ErrConnectionRefused means that nothing listens at the endpoint.
	ErrConnectionRefused = errs.ErrConnectionRefused

	// ErrUnknownAuthority means that the server's certificate is signed by an
	// authority that the client does not trust.
	ErrUnknownAuthority = errs.ErrUnknownAuthority

	// ErrWrongHostName means that the server's certificate is for another
	// host name or address.
	ErrWrongHostName = errs.ErrWrongHostName

	// ErrCertificateExpired means that the server's certificate has expired or
	// is not valid yet.
	ErrCertificateExpired = errs.ErrCertificateExpired

	// ErrClientCertificate means that the server refused the client's
	// certificate, or requires one and was given none.
	ErrClientCertificate = errs.ErrClientCertificate

	// ErrNotTLS means that the client speaks TLS and the server does not. The
	// client never falls back to plaintext.
	ErrNotTLS = errs.ErrNotTLS

	// ErrTLSRequired means that the client speaks plaintext and the server
	// wants TLS.
	ErrTLSRequired = errs.ErrTLSRequired

	// ErrNotEtcd means that what listens at the endpoint does not speak
	// etcd's protocol: a web server, or another gRPC service. A proxy that can't
	// reach its server (HTTP status 502, 503 or 504) is [ErrUnavailable].
	ErrNotEtcd = errs.ErrNotEtcd
)

// Errors about leases and locks.
var (
	// ErrLeaseLost is the reason why [Client.KeepAlive] or a [Session] ends when its lease
	// could not be renewed in time, or the server no longer knows it: then
	// [ErrLeaseNotFound] is in its chain, otherwise the error of the last renewal.
	ErrLeaseLost = errors.New("lease lost")

	// ErrLockLost is the cause of a [Lock.Context], or an [Election.Context], that ended
	// because the lock could no longer be relied upon, and the error of a write that
	// [Lock.Guard] kept from being applied. For an [Election] it means the leadership, or the
	// place of a candidate. [Lock.Unlock] returns it when another process may have taken the lock
	// since, and then so do [Lock.Lock] and [Lock.TryLock] until Unlock is called. The same
	// goes for an [RWLock] and a [Semaphore]. The
	// reason is in its chain: [ErrLeaseLost] with the error of the last renewal or
	// [ErrLeaseNotFound], [ErrLockKeyDeleted], [ErrLockKeyReplaced], [ErrClosed] or, of a
	// context of Guard, [ErrNotHeld]. [IsRetryable] is false for it, whatever the reason.
	ErrLockLost = errors.New("lock lost")

	// ErrLockKeyDeleted is the reason of an [ErrLockLost] when somebody deleted the
	// lock's key, by [Client.DeletePrefix] for example. A replaced key is also reported
	// as deleted if the holder may no longer read it.
	ErrLockKeyDeleted = errors.New("the key of the lock was deleted")

	// ErrLockKeyReplaced is the reason of an [ErrLockLost] when somebody put a value
	// under the lock's key, for example by restoring a backup: the key is no longer bound
	// to the lock's lease.
	ErrLockKeyReplaced = errors.New("the key of the lock was replaced")

	// ErrLocked is part of the error of [Lock.Lock], [RWLock.Lock], [RWLock.RLock],
	// [Semaphore.Acquire] and [Election.Campaign] when its context ended while others were
	// before it, or another led.
	ErrLocked = errors.New("lock is held by another")

	// ErrForeignKey is returned by a lock [WithConcurrencyKeys], and by a lock or an election
	// [WithBothKeys], when a key that is no claim lies under its name, and by [Election.Campaign]
	// when a key without a lease lies where the leader's or a successor's would: it would be in
	// the way for good.
	ErrForeignKey = errors.New("a key that is no claim lies under the name")

	// ErrNotHeld is returned by [Lock.Unlock], [RWLock.Unlock], [RWLock.RUnlock] and
	// [Semaphore.Release] when there is nothing to give back, and by [Election.Resign] and
	// [Election.Proclaim] of an Election that doesn't lead. Not to be confused with
	// [ErrLockLost], whose reason it is for what is guarded by a lock that was released.
	ErrNotHeld = errors.New("lock is not held")

	// ErrSemaphoreSize is returned by [Semaphore.Acquire] and [Semaphore.TryAcquire] when
	// others who hold the semaphore or wait for it were made with another size, or when a key
	// that is no claim lies among theirs. Nothing was changed. [Client.NewSemaphore] refuses
	// a size below 1 by [ErrInvalidArgument].
	ErrSemaphoreSize = errors.New("semaphore has another size")

	// ErrVacant is returned by [Election.Leader] when nobody leads. Not to be confused with
	// [ErrNoLeader], which is about the cluster.
	ErrVacant = errors.New("election has no leader")

	// ErrCampaigning is returned by [Election.Campaign] while the same Election campaigns.
	ErrCampaigning = errors.New("campaign is under way")

	// ErrLeading is returned by [Election.Campaign] of an Election that leads, or that has
	// failed to resign and whose key may still be there.
	ErrLeading = errors.New("leads already")

	// ErrNoCandidate is returned by [Election.Resign] when the successor that [WithSuccessor]
	// names is no candidate.
	ErrNoCandidate = errors.New("successor is no candidate")
)

// Sentinels in words for elections.
var (
	errNotLeading   error = worded{"not the leader", ErrNotHeld}
	errAnotherLeads error = worded{"another leads", ErrLocked}

	errForeignInElection error = worded{"a key without a lease lies among those of the election", ErrForeignKey}

	lostKey = errs.WithKind(ErrLockLost, ErrLockKeyDeleted)
)

// worded is a sentinel in other words.
type worded struct {
	text string
	of   error
}

func (e worded) Error() string { return e.text }

// Is reports that e is the sentinel.
func (e worded) Is(target error) bool { return target == e.of }

// hint adds advice to the error of a request that was sent and timed out.
func hint(err error, advice string) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Sent && errors.Is(err, ErrTimeout) {
		e.Err = errs.WithDetail(e.Err, errors.New(advice))
	}
	return err
}
