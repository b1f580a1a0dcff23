package etcd

import (
	"context"
	"encoding/json"
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
// It is safe for concurrent use. Make one with [CreateKeyring] or [OpenKeyring]
// and end it with [StoredKeyring.Close].
type StoredKeyring struct {
	client *Client
	key    string
	codec  *envelope.Codec
	outer  *envelope.Key
	opens  *envelope.Ring
	ring   *Keyring
	stop   context.CancelFunc
	ended  chan struct{}

	mu  sync.Mutex
	err error
}

// storedRing is what is sealed.
type storedRing struct {
	Version int         `json:"version"`
	Primary string      `json:"primary"`
	Keys    []storedKey `json:"keys"`
}

type storedKey struct {
	Secret  []byte    `json:"secret"`
	Created time.Time `json:"created"`
}

const storedRingVersion = 1

// outerKeyID is the key ID in the frame of a stored ring: "etcd-keyring/v1" and a
// zero byte. Which outer key opens it is known to whoever opens it.
var outerKeyID = envelope.KeyID([]byte("etcd-keyring/v1\x00"))

// CreateKeyring makes a ring of one new random key and stores it under key, sealed
// by outer, then opens it. It fails with [ErrKeyExists] when there is one. client
// must be one without encryption; it takes three round trips and two calls of
// outer.
func CreateKeyring(ctx context.Context, client *Client, key string, outer AEAD) (*StoredKeyring, error) {
	s, err := newStoredKeyring(client, key, outer)
	if err != nil {
		return nil, err
	}
	secret := GenerateKey()
	first, err := NewEncryptionKey(secret)
	if err != nil {
		return nil, fail("create keyring", key, err)
	}
	sealed, err := s.seal(storedRing{Primary: first.ID().Hex(), Keys: []storedKey{{Secret: secret, Created: time.Now().UTC()}}})
	if err != nil {
		return nil, fail("create keyring", key, err)
	}
	created, err := client.PutIfNotExists(ctx, key, sealed)
	if err != nil {
		return nil, err
	}
	if !created {
		return nil, &Error{Op: "create keyring", Key: key, Sent: true, Err: ErrKeyExists}
	}
	return s, s.open(ctx)
}

// OpenKeyring reads the ring under key and follows its changes. It fails with
// [ErrKeyNotFound] when there is none, and with a [*DecodeError] when outer does
// not open it. client must be one without encryption; it takes two round trips
// and one call of outer.
func OpenKeyring(ctx context.Context, client *Client, key string, outer AEAD) (*StoredKeyring, error) {
	s, err := newStoredKeyring(client, key, outer)
	if err != nil {
		return nil, err
	}
	return s, s.open(ctx)
}

func newStoredKeyring(client *Client, key string, outer AEAD) (*StoredKeyring, error) {
	const op = "open keyring"
	if client == nil || client.IsEncrypted() {
		return nil, fail(op, key, fmt.Errorf("%w: the client of a stored keyring must be one without encryption", ErrInvalidArgument))
	}
	k, err := envelope.NewExternalKey(outerKeyID, outer)
	if err != nil {
		return nil, fail(op, key, err)
	}
	opens, err := envelope.NewRing(k)
	if err != nil {
		return nil, fail(op, key, err)
	}
	return &StoredKeyring{
		client: client, key: key, outer: k, opens: opens,
		codec: envelope.NewCodec(envelope.Params{}),
		ring:  &Keyring{},
		ended: make(chan struct{}),
	}, nil
}

// open reads the ring and starts to follow it.
func (s *StoredKeyring) open(ctx context.Context) error {
	kv, err := s.client.GetKV(ctx, s.key)
	if err != nil {
		return err
	}
	if err := s.use(kv.Value); err != nil {
		return &Error{Op: "open keyring", Key: s.key, Sent: true, Err: err}
	}
	following, stop := context.WithCancel(context.Background())
	s.stop = stop
	err = s.client.start(func() {
		defer close(s.ended)
		defer stop()
		s.follow(following, kv.ModRevision+1)
	})
	if err != nil {
		stop()
		return fail("open keyring", s.key, err)
	}
	return nil
}

// Keyring returns the ring, for [Config.WithKeyring]. It changes as the stored one
// does; [Keyring.Replace] on it lasts until the next such change only.
func (s *StoredKeyring) Keyring() *Keyring { return s.ring }

// Err returns why the last change of the stored ring could not be taken over; nil
// when the ring is the stored one, as far as is known. The keys from before stay
// in use then.
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
	key, err := NewEncryptionKey(secret)
	if err != nil {
		return KeyID{}, fail("add key", s.key, err)
	}
	return key.ID(), s.change(ctx, "add key", func(r *storedRing) error {
		r.Keys = append(r.Keys, storedKey{Secret: secret, Created: time.Now().UTC()})
		return nil
	})
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
// [ErrUnknownKey] when the ring has no such key, and refuses the primary.
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

func (r *storedRing) index(id KeyID) int {
	return slices.IndexFunc(r.Keys, func(k storedKey) bool {
		key, err := NewEncryptionKey(k.Secret)
		return err == nil && key.ID() == id
	})
}

// change applies f to the stored ring and takes the outcome over.
func (s *StoredKeyring) change(ctx context.Context, op string, f func(*storedRing) error) error {
	var sealed []byte
	err := s.client.Update(ctx, s.key, func(old []byte) ([]byte, error) {
		if old == nil {
			return nil, &Error{Op: op, Key: s.key, Sent: true, Err: ErrKeyNotFound}
		}
		ring, err := s.unseal(old)
		if err == nil {
			err = f(&ring)
		}
		if err == nil {
			sealed, err = s.seal(ring)
		}
		if err != nil {
			return nil, &Error{Op: op, Key: s.key, Sent: true, Err: err}
		}
		return slices.Clone(sealed), nil
	})
	if err != nil {
		return err
	}
	return s.use(sealed)
}

func (s *StoredKeyring) seal(r storedRing) ([]byte, error) {
	r.Version = storedRingVersion
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return s.codec.Seal(s.outer, s.key, plain)
}

func (s *StoredKeyring) unseal(sealed []byte) (storedRing, error) {
	var r storedRing
	plain, err := s.codec.Open(s.opens, s.key, slices.Clone(sealed))
	if err != nil {
		return r, &DecodeError{Key: s.key, Err: err}
	}
	if err := json.Unmarshal(plain, &r); err != nil {
		return r, &DecodeError{Key: s.key, Err: ErrCorrupt} // the cause may quote a secret
	}
	if r.Version != storedRingVersion {
		return r, &DecodeError{Key: s.key, Err: ErrUnsupportedFormat}
	}
	return r, nil
}

// use takes a sealed ring over.
func (s *StoredKeyring) use(sealed []byte) error {
	r, err := s.unseal(sealed)
	if err != nil {
		return err
	}
	var primary *EncryptionKey
	var others []*EncryptionKey
	for _, k := range r.Keys {
		key, err := NewEncryptionKey(k.Secret)
		if err != nil {
			return &DecodeError{Key: s.key, Err: err}
		}
		if key.ID().Hex() == r.Primary {
			primary = key
		} else {
			others = append(others, key)
		}
	}
	if primary == nil {
		return &DecodeError{Key: s.key, Err: ErrCorrupt}
	}
	return s.ring.Replace(primary, others...)
}

// follow takes over every change until ctx ends or the client is closed.
func (s *StoredKeyring) follow(ctx context.Context, revision int64) {
	for n := 1; ctx.Err() == nil; n++ {
		for resp := range s.client.Watch(ctx, s.key, WithRevision(revision)) {
			if err := resp.Err(); err != nil {
				if errors.Is(err, ErrClosed) {
					return
				}
				s.note(err)
				break
			}
			n = 1
			revision = resp.Revision + 1
			s.note(s.take(resp.Events))
		}
		// The watch failed: what was missed is read, and the watch begun again.
		if !pause(ctx, s.client.closing, backoff(n)) {
			return
		}
		kv, err := s.client.GetKV(ctx, s.key)
		if err == nil {
			err = s.use(kv.Value)
			revision = kv.ModRevision + 1
		}
		s.note(err)
	}
}

// take takes over the last of a batch of changes.
func (s *StoredKeyring) take(events []*Event) error {
	last := events[len(events)-1]
	if last.Type == EventDelete {
		return &Error{Op: "follow keyring", Key: s.key, Sent: true, Err: ErrKeyNotFound}
	}
	return s.use(last.Kv.Value)
}

func (s *StoredKeyring) note(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	if err != nil {
		s.client.cfg.Logger.Warn("etcd: the stored keyring could not be taken over; its last keys stay in use",
			slog.String("key", s.key), slog.Any("error", err))
	}
}
