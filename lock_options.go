package etcd

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// LockOption changes a [Lock] or an [RWLock]: [WithLockTTL], [WithTryWait], [WithSession] and
// [WithOwner], and only a Lock [WithConcurrencyKeys] and [WithBothKeys].
type LockOption interface{ applyLock(*lockOptions) }

// ClaimOption is an option for locks, semaphores and elections: [WithLockTTL], [WithSession] and
// [WithOwner].
type ClaimOption interface {
	SeatOption
	ElectionOption
}

// KeysOption is an option for locks and elections: [WithBothKeys].
type KeysOption interface {
	LockOption
	ElectionOption
}

// SeatOption is an option for locks and semaphores: [WithTryWait], and as a [ClaimOption]
// [WithLockTTL], [WithSession] and [WithOwner].
type SeatOption interface {
	LockOption
	SemaphoreOption
}

// lockOptions are what options set.
type lockOptions struct {
	ttl     time.Duration
	ttlSet  bool
	wait    time.Duration
	session *Session
	owner   string
	// theirKeys says that the keys are those of package concurrency, bothKeys that there are
	// two.
	theirKeys, bothKeys bool
}

// check returns the time to live in the server's unit, or why the options make no sense.
func (o lockOptions) check() (ttlSeconds int64, err error) {
	if o.wait < 0 {
		return 0, fmt.Errorf("%w: negative wait", ErrInvalidArgument)
	}
	if o.session != nil && o.ttlSet {
		return 0, fmt.Errorf("%w: WithLockTTL and WithSession, which has its own time to live", ErrInvalidArgument)
	}
	if len(o.owner) > maxOwner {
		return 0, fmt.Errorf("%w: owner of %d bytes, the limit is %d", ErrTooLarge, len(o.owner), maxOwner)
	}
	if !utf8.ValidString(o.owner) {
		return 0, fmt.Errorf("%w: owner that is not UTF-8", ErrInvalidArgument)
	}
	if o.owner != "" && o.theirKeys {
		return 0, fmt.Errorf("%w: WithOwner beside WithConcurrencyKeys, whose keys have no value", ErrInvalidArgument)
	}
	if o.bothKeys && (o.theirKeys || o.session != nil) {
		return 0, fmt.Errorf("%w: WithBothKeys beside WithConcurrencyKeys or WithSession", ErrInvalidArgument)
	}
	return checkTTL(o.ttl)
}

// WithLockTTL sets the time to live of the lease of a lock or an election, or of each claim to an
// [RWLock] or a [Semaphore], in whole seconds (rounded up; the server may raise it, see
// [Client.Grant]). Others get the lock after this time if its holder has died. A holder survives
// three quarters of it without an answer from the
// cluster: the lease is renewed at least every eighth, and counts as lost a tenth of it,
// at most a second, before it may end. The default is [DefaultLockTTL].
func WithLockTTL(ttl time.Duration) ClaimOption { return lockTTLOption(ttl) }

type lockTTLOption time.Duration

func (ttl lockTTLOption) applyLock(o *lockOptions) { o.ttl, o.ttlSet = time.Duration(ttl), true }

func (ttl lockTTLOption) applySemaphore(o *semaphoreOptions) { ttl.applyLock(&o.lockOptions) }

// WithSession has a lock or an election use the lease of a session, instead of one of its own:
// then [Client.NewLock] and [Lock.Close] of a lock that is not held take no round trip, and the
// lock is lost with the session. The claims to an [RWLock] or a [Semaphore] need no leases of
// their own then. Locks of one name on one session exclude each other. A nil session
// is refused, one of another client too, and WithLockTTL beside it, with [ErrInvalidArgument];
// one that has ended with [ErrClosed] or [ErrLeaseLost].
//
// A claim whose answer is lost can't be given up with the lease then, as others depend on it: it
// is deleted by its key, which is looked for from ten times a second down to every ten seconds, in
// the background: until it is gone, and if the request may come late, for as long as the session
// lives. Claims to one thing on one session share such a key. Campaigns don't: each that ends in
// doubt is looked for by a goroutine of its own, so a candidate that campaigns with deadlines
// shorter than the server takes to answer had better have a lease of its own.
func WithSession(s *Session) ClaimOption {
	if s == nil {
		return nil // refused like any nil option
	}
	return lockSessionOption{s}
}

type lockSessionOption struct{ session *Session }

func (s lockSessionOption) applyLock(o *lockOptions) { o.session = s.session }

func (s lockSessionOption) applySemaphore(o *semaphoreOptions) { s.applyLock(&o.lockOptions) }

// WithTryWait lets [Lock.TryLock], [RWLock.TryLock], [RWLock.TryRLock] and
// [Semaphore.TryAcquire] wait up to d for what is taken, in addition to the time that the
// server takes to answer. The default is 0: they don't wait.
func WithTryWait(d time.Duration) SeatOption { return tryWaitOption(d) }

type tryWaitOption time.Duration

func (d tryWaitOption) applyLock(o *lockOptions) { o.wait = time.Duration(d) }

func (d tryWaitOption) applySemaphore(o *semaphoreOptions) { d.applyLock(&o.lockOptions) }

// maxOwner is the most bytes of an owner's text. The doc of WithOwner names it.
const maxOwner = 1024

// WithOwner sets what [Lock.Queue], or [Election.Queue], tells others of the owner of a claim, beside
// the name of its machine and its process: a version, a task, whom to ask. It is UTF-8 of at most
// 1 KiB; more is refused with [ErrTooLarge], and other bytes with [ErrInvalidArgument], as is any text
// beside [WithConcurrencyKeys], whose keys have no place for it. The default is no text.
func WithOwner(text string) ClaimOption { return ownerOption(text) }

type ownerOption string

func (text ownerOption) applyLock(o *lockOptions) { o.owner = string(text) }

func (text ownerOption) applySemaphore(o *semaphoreOptions) { text.applyLock(&o.lockOptions) }

// WithConcurrencyKeys has the lock take turns with those of other programs that use the keys of
// clientv3's package concurrency: its Mutex and Election, "etcdctl lock" and "etcdctl elect",
// the server's own lock service, and the locks of the Blueprint provider. All of one name
// exclude each other. [WithBothKeys] is for the time in which others use this package's keys.
//
// The keys are the name, a slash and the lease in hexadecimal, without a value, so that
// [Lock.Queue] knows no owner. They lie among those of users: lists show them, as they show those
// of other programs, and where the client encrypts, reads report them as [ErrNotEncrypted] or
// [ErrCorrupt]. Keep them away from data.
//
// What lies under the name and a slash and is no claim, such as data or the locks of a longer
// name, would be waited for like a claim, and for good. If such a key is older than the claim,
// [Lock.Lock] and [Lock.TryLock] fail with [ErrForeignKey] instead, and leave nothing behind.
//
// The other programs don't have the guards of this one: what they write while they believe to
// hold the lock is not bound to it.
func WithConcurrencyKeys() LockOption { return theirKeysOption{} }

type theirKeysOption struct{}

func (theirKeysOption) applyLock(o *lockOptions) { o.theirKeys = true }

// WithBothKeys has each claim to a lock, and each leader of an election, have a key of this package
// and one of package concurrency (see [WithConcurrencyKeys]): the lock is held, and the election led,
// by who is first in both queues, so that it excludes those with either keys. It is for a migration:
// begin with it, or a lock with WithConcurrencyKeys, while old programs still run, go on with it in
// all programs, and then without. It can't be used beside WithConcurrencyKeys or [WithSession]
// ([ErrInvalidArgument]). What lies under the name and is no claim is an [ErrForeignKey], as it is
// WithConcurrencyKeys.
//
// A lock is lost when either key is, and so is a leadership. [Lock.Guard] and [Election.Guard] bind
// writes to both; [Lock.Held] and [Election.Held] are the condition for the first alone.
//
// For a lock it costs no further round trip, since one transaction puts and deletes both keys.
//
// A candidate waits for its turn among those of this package first, by their priorities, and then
// behind all that have come under the other keys; [Election.Campaign] takes a round trip more. If
// somebody of a higher priority comes meanwhile, it gives up its place there.
//
// [Election.Leader] and [Election.Observe] with this option know the leaders of clientv3's Election
// too, and "etcdctl elect": the value is decoded like any other, so that a client that encrypts
// reports it as a [*DecodeError] unless it accepts plaintext, the Revision is that of the value, and
// the Token is comparable only with those of leaders with such keys. Whoever holds a mutex of the
// name counts as a leader. Observe reads anew after each change, and may leave out what was
// replaced before it has. If somebody deletes the key of a candidate of this package that has a place
// among clientv3's, both may tell it as the leader when that place is the first, until its lease is
// revoked. Clientv3's Leader and Observe see a leader of this package, with its value as stored,
// encrypted if its client encrypts. [Election.Proclaim] replaces the value under both keys in one
// request, and so takes values of up to half of [Config.MaxRequestBytes].
func WithBothKeys() KeysOption { return bothKeysOption{} }

type bothKeysOption struct{}

func (bothKeysOption) applyLock(o *lockOptions) { o.bothKeys = true }

func (o bothKeysOption) applyElection(all *electionOptions) { o.applyLock(&all.lease) }
