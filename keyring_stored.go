package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// StoredKeyring is a [Keyring] that is kept in etcd itself, under one key, sealed by an
// outer key that stays elsewhere (envelope encryption). A process calls the outer key
// once when it starts, and once for each change of the ring; the keys inside encrypt the
// values. Every process learns of changes by a watch, and by a periodic read
// ([WithKeyringFreshness]). A value whose key the ring lacks causes another read, at most
// ten a second, before it fails with [ErrUnknownKey].
//
// The ring has an identity and a generation. A process refuses a stored ring that can't
// be the next generation of its own: another ring, an older one, one without the primary
// key. It keeps its keys, reports [ErrKeyringReplaced] in [StoredKeyring.Err], and leaves
// the decision to [StoredKeyring.Restore] and [StoredKeyring.Adopt]. It goes on writing,
// except when a generation that is no older has another primary key: then it stops with
// [ErrKeyringStale] after the time of [WithKeyringFreshness]. It takes over a later
// generation that lacks keys which this process did not see retired, keeps those keys to
// decrypt, and reports that in the same way.
//
// If the cluster was restored to an older revision, an older generation is stored for a
// reason. Until the decision a process encrypts with that generation's primary key, which
// all others have, unless it was retired since. It decrypts with the keys of both.
//
// It is safe for concurrent use. Make one with [CreateKeyring] or [OpenKeyring], which
// describe the client it needs, and end it with [StoredKeyring.Close].
type StoredKeyring struct {
	client  *Client
	key     string
	place   string // the key as stored, to which the sealed ring is bound
	options keyringOptions
	outer   *envelope.Key
	ring    *Keyring
	began   time.Time

	life  context.Context // ends with Close, or with the client
	stop  context.CancelFunc
	ended chan struct{}
	again chan struct{} // asks for another watch

	looks looks

	// confirmed is when the last read that proved the keys to be current was sent, in
	// nanoseconds after began.
	confirmed atomic.Int64

	mu       sync.Mutex // never held over a call of the outer key or of the client
	followed func() *followed
	err      error
}

// followed is what a process knows of the stored ring. It is behind a function so that
// printing by reflection never finds the keys.
type followed struct {
	taken  *storedRing // nil before the first
	sealed []byte      // the stored bytes of taken
	// refused is what was found and not taken over, refusal why.
	refused []byte
	refusal error
	// superseded reports whether the refused ring shows that the primary key is another
	// now.
	superseded bool
	// revision is the one up to which the ring was judged, seen the newest of the store.
	revision, seen int64
	regressed      bool             // nothing was judged since the store went back
	restored       bool             // nothing was taken since it did
	kept           []*EncryptionKey // of the rings that [StoredKeyring.Adopt] replaced
	// missing are keys that were in use and that the taken ring lacks, though they were
	// never seen retired.
	missing []storedKey
}

// CreateKeyring makes a ring of one new random key and stores it under key, sealed by
// outer. It fails with [ErrKeyExists] when there is a ring already. It takes a round
// trip, another one in the background, and two calls of outer: what outer seals is opened
// before it is stored. The deadline for all of it is that of ctx, or
// [Config.RequestTimeout].
//
// The client must store the value of key as it is: it encrypts and compresses nothing, or
// key lies under its [Config.UnencryptedPrefixes]. Otherwise CreateKeyring fails with
// [ErrInvalidArgument]. The client must stay open for as long as the ring is to follow
// changes.
func CreateKeyring(ctx context.Context, client *Client, key string, outer AEAD, opts ...KeyringOption) (*StoredKeyring, error) {
	const op = "create keyring"
	return beginKeyring(ctx, op, client, key, outer, opts, func(ctx context.Context, s *StoredKeyring) error {
		record, err := newStoredRing()
		if err != nil {
			return fail(op, key, err)
		}
		sealed, err := s.proven(ctx, record)
		if err != nil {
			return fail(op, key, err)
		}
		sent := time.Now()
		res, err := client.commit(ctx, request{op: op, key: key}, client.Txn().If(Missing(key)).Then(OpPut(key, sealed)))
		switch {
		case err != nil:
			return err
		case !res.Succeeded:
			return answered(op, key, ErrKeyExists)
		}
		return s.take(record, sighting{stored: sealed, revision: res.Revision, seen: res.Revision, sent: sent})
	})
}

// OpenKeyring reads the ring under key and follows its changes. It fails with
// [ErrKeyNotFound] when there is none, and with a [*DecodeError] when outer does not open
// it. It takes a round trip, another one in the background, and one call of outer. The
// client and the deadline are as described at [CreateKeyring].
//
// Use "open, else create" for the very first start only. If a ring was lost,
// [StoredKeyring.Restore] stores it again from a process that still has it; a new one
// would leave the values of the old one without their keys.
func OpenKeyring(ctx context.Context, client *Client, key string, outer AEAD, opts ...KeyringOption) (*StoredKeyring, error) {
	const op = "open keyring"
	return beginKeyring(ctx, op, client, key, outer, opts, func(ctx context.Context, s *StoredKeyring) error {
		v, err := s.read(ctx, op)
		if err != nil {
			return err
		}
		return answered(op, key, s.judge(ctx, v))
	})
}

// beginKeyring makes a StoredKeyring, lets get give it its first record, and follows
// that.
func beginKeyring(ctx context.Context, op string, client *Client, key string, outer AEAD, opts []KeyringOption,
	get func(context.Context, *StoredKeyring) error,
) (*StoredKeyring, error) {
	s, err := newStoredKeyring(client, key, outer, opts)
	if err != nil {
		return nil, fail(op, key, err)
	}
	if err = client.withDeadline(ctx, request{op: op, key: key}, func(ctx context.Context) error { return get(ctx, s) }); err == nil {
		err = s.start(op)
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func newStoredKeyring(client *Client, key string, outer AEAD, opts []KeyringOption) (*StoredKeyring, error) {
	if client.Raw() == nil {
		return nil, fmt.Errorf("%w: nil client, or a zero one", ErrInvalidArgument)
	}
	place, err := client.stored(key)
	if err != nil {
		return nil, err
	}
	if !client.codec.plain(place) {
		return nil, fmt.Errorf("%w: the client encrypts or compresses the key of the ring itself", ErrInvalidArgument)
	}
	o, err := keyringOptionsOf(opts)
	if err != nil {
		return nil, err
	}
	k, err := envelope.NewExternalKey(envelope.KeyID{}, outer)
	if err != nil {
		return nil, err
	}
	state := &followed{}
	s := &StoredKeyring{
		client: client, key: key, place: string(place), options: o, outer: k, began: time.Now(),
		ended: make(chan struct{}), again: make(chan struct{}, 1),
		followed: func() *followed { return state },
	}
	s.ring = &Keyring{source: s}
	s.life, s.stop = context.WithCancel(inBackground(context.Background()))
	return s, nil
}

// start begins to follow changes. One goroutine does that; another one ends it with the
// client, since it may be inside a call of the outer key.
func (s *StoredKeyring) start(op string) error {
	next := s.nextRevision()
	err := s.client.rpc.Start(func() {
		defer close(s.ended)
		defer s.stop()
		s.follow(next)
	})
	if err == nil {
		err = s.client.rpc.Start(func() {
			select {
			case <-s.client.rpc.Closing():
				s.stop()
			case <-s.life.Done():
			}
		})
	}
	if err != nil {
		return fail(op, s.key, err)
	}
	return nil
}

// Keyring returns the ring, for [Config.WithKeyring]. It changes as the stored one does;
// the effect of [Keyring.Replace] on it lasts only until the next such change.
func (s *StoredKeyring) Keyring() *Keyring { return s.ring }

// Err returns why the ring is not known to be the stored one at the moment, which is
// logged as well; nil if it is, as far as known. The keys from before stay in use.
//
//   - [ErrKeyNotFound]: the stored ring was deleted. It is followed again when it is put
//     back, see [StoredKeyring.Restore].
//   - [ErrKeyringReplaced]: another ring, an older one, or one without the primary key is
//     stored; with [ErrRevisionRegressed] as well if the cluster was restored from a
//     backup. Or the ring was taken over and lacks the named keys, which were not seen
//     retired: they are kept to decrypt until this process ends.
//   - A [*DecodeError]: what is stored does not open, or the outer key can't be used.
//   - Anything else: the ring could not be read.
//
// The process tries again, with up to half a minute between attempts.
func (s *StoredKeyring) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return answered(opFollow, s.key, s.followed().lacks())
}

// Close stops following changes, and returns even if the outer key hangs. It is
// idempotent, and does not close the client. The keys still decrypt, and for the time of
// [WithKeyringFreshness] they encrypt.
func (s *StoredKeyring) Close() error {
	s.stop()
	<-s.ended
	return nil
}

// KeyringInfo describes a process's record of a [StoredKeyring].
type KeyringInfo struct {
	// Identity stays the same for as long as the ring lives, in hexadecimal.
	Identity string
	// Generation counts the changes of the ring, from 1. Two processes that have the
	// same identity and generation have the same keys.
	Generation int64
	// Keys are the keys of the ring, the oldest first.
	Keys []KeyInfo
}

// KeyInfo describes a key of a [StoredKeyring]. The times are by the clocks of the
// processes that made the changes.
type KeyInfo struct {
	ID      KeyID
	Primary bool
	Created time.Time
	// Promoted is when the key last became the primary; zero if it never did.
	Promoted time.Time
	// Retired is when the key was retired; zero for one in use.
	Retired time.Time
}

// Info describes this process's record of the stored ring.
func (s *StoredKeyring) Info() KeyringInfo {
	s.mu.Lock()
	r := s.followed().taken
	s.mu.Unlock()
	return r.info()
}

func (s *StoredKeyring) note(err error) {
	s.mu.Lock()
	again := s.err != nil && err != nil && s.err.Error() == err.Error()
	s.err = err
	s.mu.Unlock()
	if err != nil && !again {
		s.client.cfg.Logger.Warn("etcd: the stored keyring can't be followed; its last keys stay in use",
			slog.String("key", s.key), slog.Any("error", err))
	}
}
