package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// StoredKeyring is a [Keyring] that is kept in etcd itself, under one key, sealed
// by an outer key that stays elsewhere (envelope encryption). A process calls the
// outer key once when it starts, and once for each change of the ring; the values
// are encrypted with the keys inside. Changes reach every process by a watch.
//
// It is safe for concurrent use. Make one with [CreateKeyring] or [OpenKeyring],
// which say what client it takes, and end it with [StoredKeyring.Close].
type StoredKeyring struct {
	client *Client
	key    string
	place  string // the key as stored, to which the sealed ring is bound
	codec  *envelope.Codec
	outer  *envelope.Key
	opens  *envelope.Ring
	ring   *Keyring
	stop   context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex // never held over a call of the outer key or of the client
	revision int64      // of the change that the ring is from
	err      error
}

// CreateKeyring makes a ring of one new random key and stores it under key, sealed
// by outer. It fails with [ErrKeyExists] when there is one. It takes a round trip,
// another one in the background, and two calls of outer: what outer seals is
// opened before it is stored.
//
// The value of key must be stored as it is by client: one without encryption and
// compression, or with key under [Config.UnencryptedPrefixes]. Any other is
// [ErrInvalidArgument]. The client must stay open for as long as the ring is to
// follow changes.
func CreateKeyring(ctx context.Context, client *Client, key string, outer AEAD) (*StoredKeyring, error) {
	const op = "create keyring"
	s, err := newStoredKeyring(client, key, outer)
	if err != nil {
		return nil, fail(op, key, err)
	}
	record, sealed, err := s.first(ctx)
	if err != nil {
		return nil, fail(op, key, err)
	}
	res, err := client.commit(ctx, op, key, client.Txn().If(Missing(key)).Then(OpPut(key, sealed)))
	if err != nil {
		return nil, err
	}
	if !res.Succeeded {
		return nil, answered(op, key, ErrKeyExists)
	}
	return s.begin(op, record, res.Revision, res.Revision)
}

// OpenKeyring reads the ring under key and follows its changes. It fails with
// [ErrKeyNotFound] when there is none, and with a [*DecodeError] when outer does
// not open it. It takes a round trip, another one in the background, and one call
// of outer. What is said of the client at [CreateKeyring] holds here too.
func OpenKeyring(ctx context.Context, client *Client, key string, outer AEAD) (*StoredKeyring, error) {
	const op = "open keyring"
	s, err := newStoredKeyring(client, key, outer)
	if err != nil {
		return nil, fail(op, key, err)
	}
	record, revision, seen, err := s.load(ctx, op)
	if err != nil {
		return nil, err
	}
	return s.begin(op, record, revision, seen)
}

func newStoredKeyring(client *Client, key string, outer AEAD) (*StoredKeyring, error) {
	if client == nil {
		return nil, fmt.Errorf("%w: nil client", ErrInvalidArgument)
	}
	place, err := client.stored(key)
	if err != nil {
		return nil, err
	}
	if !client.codec.plain(place) {
		return nil, fmt.Errorf("%w: the client encrypts or compresses the key of the ring itself", ErrInvalidArgument)
	}
	k, err := envelope.NewExternalKey(outerKeyID, outer)
	if err != nil {
		return nil, err
	}
	opens, err := envelope.NewRing(k)
	if err != nil {
		return nil, err
	}
	return &StoredKeyring{
		client: client, key: key, place: string(place), outer: k, opens: opens,
		codec: envelope.NewCodec(envelope.Params{}),
		ring:  &Keyring{},
		ended: make(chan struct{}),
	}, nil
}

// begin takes the first record over and follows what comes after the revision up
// to which all is seen.
func (s *StoredKeyring) begin(op string, record *storedRing, revision, seen int64) (*StoredKeyring, error) {
	if err := s.use(record, revision); err != nil {
		return nil, answered(op, s.key, err)
	}
	following, stop := context.WithCancel(inBackground(context.Background()))
	s.stop = stop
	err := s.client.start(func() {
		defer close(s.ended)
		defer stop()
		s.follow(following, seen+1)
	})
	if err != nil {
		stop()
		return nil, fail(op, s.key, err)
	}
	return s, nil
}

// Keyring returns the ring, for [Config.WithKeyring]. It changes as the stored one
// does; [Keyring.Replace] on it lasts until the next such change only.
func (s *StoredKeyring) Keyring() *Keyring { return s.ring }

// Err returns why the stored ring can't be followed at the moment, which is logged
// as well; nil when the ring is the stored one, as far as is known. The keys from
// before stay in use. It is tried again, after up to half a minute; a deleted ring
// ([ErrKeyNotFound]) is followed again when it is put back.
func (s *StoredKeyring) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close stops following changes. The keys stay usable. It is idempotent, and does
// not close the client.
func (s *StoredKeyring) Close() error {
	s.stop()
	<-s.ended
	return nil
}

// AddKey puts a new random key into the ring, to decrypt, and returns its ID: the
// first step of a rotation. Promote it when every process has it.
func (s *StoredKeyring) AddKey(ctx context.Context) (KeyID, error) {
	secret := GenerateKey()
	var added KeyID
	err := s.change(ctx, "add key", func(r *storedRing) (err error) {
		added, err = r.add(secret)
		return err
	})
	return added, err
}

// Promote makes a key of the ring the primary. It fails with [ErrUnknownKey] when
// the ring has no such key.
func (s *StoredKeyring) Promote(ctx context.Context, id KeyID) error {
	return s.change(ctx, "promote key", func(r *storedRing) error {
		if r.index(id) < 0 {
			return fmt.Errorf("%w: %s", ErrUnknownKey, id)
		}
		r.Primary = id.Hex()
		return nil
	})
}

// RetireKey takes a key out of the ring for good: what it encrypted can't be read
// any more, from backups neither unless the key is kept elsewhere. It fails with
// [ErrUnknownKey] when the ring has no such key, and with [ErrInvalidArgument] for
// the primary.
func (s *StoredKeyring) RetireKey(ctx context.Context, id KeyID) error {
	return s.change(ctx, "retire key", func(r *storedRing) error {
		i := r.index(id)
		if i < 0 {
			return fmt.Errorf("%w: %s", ErrUnknownKey, id)
		}
		if r.Primary == id.Hex() {
			return fmt.Errorf("%w: %s is the primary key", ErrInvalidArgument, id)
		}
		r.Keys = slices.Delete(r.Keys, i, i+1)
		return nil
	})
}

// change applies f to the stored ring, again if another process changed it
// meanwhile, and takes the outcome over. It takes two round trips and two calls of
// outer; a third one where the watch brings the change before the answer does.
func (s *StoredKeyring) change(ctx context.Context, op string, f func(*storedRing) error) error {
	return s.client.compete(ctx, op, s.key, func(ctx context.Context) (bool, error) {
		record, revision, _, err := s.load(ctx, op)
		if err != nil {
			return false, err
		}
		if err := f(record); err != nil {
			return false, answered(op, s.key, err)
		}
		sealed, err := s.seal(ctx, record)
		if err != nil {
			return false, answered(op, s.key, err)
		}
		res, err := s.client.commit(ctx, op, s.key, s.client.Txn().
			If(ModRevision(s.key).Equal(revision)).Then(OpPut(s.key, sealed, WithIgnoreLease())))
		if err != nil || !res.Succeeded {
			return false, err
		}
		return true, answered(op, s.key, s.use(record, res.Revision))
	})
}

// load reads the stored ring. It returns the revision of its last change, and the
// one at which it was read.
func (s *StoredKeyring) load(ctx context.Context, op string) (record *storedRing, revision, seen int64, err error) {
	res, err := s.client.commit(ctx, op, s.key, s.client.Txn().Then(OpGet(s.key)))
	if err != nil {
		return nil, 0, 0, err
	}
	kv, exists := res.KV(s.key)
	if !exists {
		return nil, 0, res.Revision, answered(op, s.key, ErrKeyNotFound)
	}
	record, err = s.unseal(ctx, kv.Value)
	return record, kv.ModRevision, res.Revision, answered(op, s.key, err)
}

// use makes the ring that of a record, unless it is from a later change already:
// those of other processes come by the watch, at the same time as ours.
func (s *StoredKeyring) use(record *storedRing, revision int64) error {
	primary, others, err := record.keys()
	if err != nil {
		return &DecodeError{Key: s.key, Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if revision <= s.revision {
		return nil
	}
	if err := s.ring.Replace(primary, others...); err != nil {
		return &DecodeError{Key: s.key, Err: err}
	}
	s.revision = revision
	return nil
}

// isCurrent reports whether the ring is from that change or a later one.
func (s *StoredKeyring) isCurrent(revision int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return revision <= s.revision
}

// maxKeyringPause bounds the time between two attempts to follow the stored ring.
const maxKeyringPause = 30 * time.Second

// follow takes over every change from the revision next on, until ctx ends or the
// client is closed.
func (s *StoredKeyring) follow(ctx context.Context, next int64) {
	var err error
	for n := 1; ; n++ {
		if err == nil {
			began := time.Now()
			err = s.watch(ctx, next)
			if time.Since(began) > maxKeyringPause {
				n = 1 // all was well in between
			}
		}
		if ctx.Err() != nil || s.client.isClosed() {
			return
		}
		s.note(err)
		// Each attempt may be a call of the outer key: they are spread out further
		// than those of a request.
		if !pause(ctx, s.client.closing, backoff(n)*time.Duration(min(n, int(maxKeyringPause/maxBackoff)))) {
			return
		}
		undecodable := isDecodeError(err)
		if next, err = s.reload(ctx); err == nil && undecodable {
			n = 0 // what was the trouble is over
		}
	}
}

func isDecodeError(err error) bool {
	_, ok := errors.AsType[*DecodeError](err)
	return ok
}

// watch takes over changes until one of them or the watch itself fails.
func (s *StoredKeyring) watch(ctx context.Context, next int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range s.client.Watch(ctx, s.key, WithRevision(next)) {
		if err := resp.Err(); err != nil {
			return err
		}
		if err := s.take(ctx, resp.Events[len(resp.Events)-1]); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// take takes over a change.
func (s *StoredKeyring) take(ctx context.Context, last *Event) error {
	if last.Type == EventDelete {
		s.note(answered("follow keyring", s.key, ErrKeyNotFound))
		return nil
	}
	if !s.isCurrent(last.Kv.ModRevision) {
		record, err := s.unseal(ctx, last.Kv.Value)
		if err == nil {
			err = s.use(record, last.Kv.ModRevision)
		}
		if err != nil {
			return answered("follow keyring", s.key, err)
		}
	}
	s.note(nil)
	return nil
}

// reload reads the ring where the watch could not go on, and returns the revision
// from which it can.
func (s *StoredKeyring) reload(ctx context.Context) (next int64, err error) {
	record, revision, seen, err := s.load(ctx, "follow keyring")
	if err == nil {
		err = s.use(record, revision)
	}
	if errors.Is(err, ErrKeyNotFound) {
		s.note(err)
		return seen + 1, nil
	}
	if err == nil {
		s.note(nil)
	}
	return seen + 1, err
}

func (s *StoredKeyring) note(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	if err != nil {
		s.client.cfg.Logger.Warn("etcd: the stored keyring can't be followed; its last keys stay in use",
			slog.String("key", s.key), slog.Any("error", err))
	}
}
