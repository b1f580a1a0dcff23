package etcd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// sighting is what was seen of the stored ring at one moment.
type sighting struct {
	stored   []byte // nil where there is no ring
	revision int64  // of its last change
	seen     int64  // the newest of the store
	// sent is when the read was sent; zero for a watch event, which may be old.
	sent time.Time
}

// read looks at the stored ring, linearizably.
func (s *StoredKeyring) read(ctx context.Context, op string) (sighting, error) {
	s.mu.Lock()
	before := s.followed().seen
	s.mu.Unlock()
	v := sighting{sent: time.Now()}
	res, err := s.client.commit(ctx, request{op: op, key: s.key}, s.client.Txn().Then(OpGet(s.key)))
	if err != nil {
		return v, err
	}
	if kv, exists := res.KV(s.key); exists {
		v.stored, v.revision = kv.Value, kv.ModRevision
	}
	v.seen = res.Revision
	s.saw(v.seen, v.seen < before) // only a restore explains that: the read came later
	return v, nil
}

// saw records how far the store is. After a restore, what was known of revisions no
// longer holds. The watch, which waits for a revision that is now far away, must start
// again.
func (s *StoredKeyring) saw(revision int64, regressed bool) {
	s.mu.Lock()
	f := s.followed()
	if !regressed {
		f.seen = max(f.seen, revision)
		s.mu.Unlock()
		return
	}
	f.seen, f.revision, f.regressed = revision, 0, true
	s.mu.Unlock()
	select {
	case s.again <- struct{}{}:
	default:
	}
	s.client.cfg.Logger.Warn("etcd: the cluster was restored to an older revision; the stored keyring is read again",
		slog.String("key", s.key), slog.Int64("revision", revision))
}

func (s *StoredKeyring) nextRevision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.followed().seen + 1
}

// judge takes over a sighting, or returns why not.
func (s *StoredKeyring) judge(ctx context.Context, v sighting) error {
	if known, err := s.recall(v); known {
		return err
	}
	record, err := s.unseal(ctx, v.stored)
	if err != nil {
		return err
	}
	return s.take(record, v)
}

// recall judges sightings that need no call of the outer key.
func (s *StoredKeyring) recall(v sighting) (known bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.followed()
	switch {
	case v.until() < f.revision:
		return true, nil // a later change was judged already
	case v.stored == nil:
		f.advance(v)
		f.refused, f.refusal = nil, nil
		err = ErrKeyNotFound
	case f.taken != nil && bytes.Equal(v.stored, f.sealed) && !f.restored:
		f.advance(v)
		f.refused, f.refusal = nil, nil
	case f.refusal != nil && bytes.Equal(v.stored, f.refused):
		f.advance(v)
		err = f.refusal
	default:
		return false, nil
	}
	s.confirm(v)
	return true, err
}

// until returns the revision up to which a sighting shows the state of the ring.
func (v *sighting) until() int64 {
	if v.sent.IsZero() {
		return v.revision
	}
	return v.seen
}

// advance records that a sighting was judged.
func (f *followed) advance(v sighting) {
	f.revision, f.regressed = max(f.revision, v.until()), false
}

// take takes over a record if it can follow the one in use.
func (s *StoredKeyring) take(record *storedRing, v sighting) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.followed()
	if f.taken == nil {
		return s.install(record, v)
	}
	if v.until() < f.revision {
		return nil // a later one was judged meanwhile
	}
	err := f.taken.refuses(record)
	if err == nil {
		return s.install(record, v)
	}
	if f.regressed {
		err = errs.WithKind(ErrRevisionRegressed, err)
		f.restored = true
	}
	if f.restored {
		s.lend(record)
	}
	f.advance(v)
	f.refused, f.refusal = v.stored, err
	f.superseded = !f.restored && f.taken.supersededBy(record)
	s.confirm(v)
	return err
}

// lend makes the ring encrypt with the primary key of an older record that a restore of
// the cluster brought back, and adds that record's keys to decrypt. Every process can
// read what that key writes, while the newer keys may be in this process alone, and be
// lost with it. No writer can cause this: the whole store went back. A key that was
// retired since is not used to encrypt, nor is any key of another ring. The lock is held.
func (s *StoredKeyring) lend(record *storedRing) {
	f := s.followed()
	if !bytes.Equal(record.Identity, f.taken.Identity) {
		return
	}
	primary, others, err := record.encryptionKeys(true)
	if err != nil {
		return
	}
	own, more, err := f.taken.encryptionKeys(s.options.retired)
	if err != nil {
		return
	}
	if i := slices.IndexFunc(f.taken.Keys, func(k storedKey) bool { return k.ID == record.Primary }); i >= 0 && !f.taken.Keys[i].Retired.IsZero() {
		primary, others = own, append(others, primary)
	}
	for _, k := range slices.Concat([]*EncryptionKey{own}, more, f.kept, decryptors(f.missing)) {
		if k.ID() != primary.ID() && !keyringHas(others, k.ID()) {
			others = append(others, k)
		}
	}
	_ = s.ring.Replace(primary, others...) // can't fail: they were keys of a ring before
	f.borrow(record)
}

// install makes a record the one in use. The lock is held.
func (s *StoredKeyring) install(record *storedRing, v sighting) error {
	f := s.followed()
	primary, others, err := record.encryptionKeys(s.options.retired)
	if err != nil {
		return &DecodeError{Key: s.key, Err: err}
	}
	missing := f.without(record)
	kept := slices.Concat(f.kept, decryptors(missing))
	for i, k := range kept {
		if !record.has(k.ID().Hex()) && !keyringHas(kept[:i], k.ID()) {
			others = append(others, k)
		}
	}
	if err := s.ring.Replace(primary, others...); err != nil {
		return &DecodeError{Key: s.key, Err: err}
	}
	if len(missing) > len(f.missing) {
		s.client.cfg.Logger.Warn("etcd: the stored keyring lacks keys of this process, which keeps them to decrypt",
			slog.String("key", s.key), slog.Int("keys", len(missing)))
	}
	f.taken, f.sealed, f.refused, f.refusal, f.restored = record, v.stored, nil, nil, false
	f.missing = missing
	f.advance(v)
	s.confirm(v)
	return nil
}

// confirm records that the keys in use were the right ones when a read was sent. A
// missing ring, another ring and an older one confirm them too: whoever can write to etcd
// can cause those, and must not stop every process from writing. A refused ring that goes
// on from this one with another primary key does not. The lock is held.
func (s *StoredKeyring) confirm(v sighting) {
	f := s.followed()
	if superseded := f.refusal != nil && f.superseded; !superseded && !v.sent.IsZero() {
		s.confirmed.Store(max(s.confirmed.Load(), int64(v.sent.Sub(s.began))))
	}
}

// maxKeyringPause bounds the time between two attempts to follow the stored ring.
const maxKeyringPause = 30 * time.Second

// follow takes over every change from the revision next on, until the ring or the client
// is closed.
func (s *StoredKeyring) follow(next int64) {
	for n := 1; ; {
		began := time.Now()
		err := s.watch(next)
		if time.Since(began) > maxKeyringPause {
			n = 1 // all was well in between
		}
		for ; s.life.Err() == nil && err != nil; n++ { // until a read has judged the ring
			s.note(err)
			// Each attempt may call the outer key, so they are further apart than those
			// of a request.
			rpc.Pause(s.life, s.client.rpc.Closing(), rpc.Backoff(n)*time.Duration(min(n, int(maxKeyringPause/rpc.MaxBackoff))))
			unopened := isUnopened(err)
			if err = s.refresh(s.life); err == nil && unopened {
				n = 0 // the trouble is over
			}
		}
		if s.life.Err() != nil || s.client.rpc.IsClosed() {
			return
		}
		next = s.nextRevision()
	}
}

// watch takes over changes until taking one over fails, the watch itself fails, or
// another watch is asked for.
func (s *StoredKeyring) watch(next int64) error {
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	changes := s.client.Watch(ctx, s.key, WithRevision(next), WithWatchStatus())
	looks := time.NewTicker(s.options.freshness / 5)
	defer looks.Stop()
	for {
		var err error
		select {
		case resp, open := <-changes:
			if err = resp.Err(); err == nil && !open {
				err = context.Cause(ctx)
			}
			switch {
			case err != nil:
			case resp.State == WatchResumed:
				// The cluster may have been restored. A watch that had not yet heard of
				// what was lost knows nothing of that; a read shows it.
				err = s.refresh(ctx)
			case resp.State == WatchEvents:
				err = s.settle(s.news(ctx, resp))
			}
		case <-looks.C:
			err = s.refresh(ctx)
		case <-s.again:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// news judges changes one by one, so that a key which one change retires and the next
// deletes does not count as missing. The result is that of the last change.
func (s *StoredKeyring) news(ctx context.Context, resp WatchResponse) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.client.cfg.RequestTimeout)
	defer cancel()
	for _, e := range resp.Events {
		v := sighting{revision: e.Kv.ModRevision, seen: max(resp.Revision, e.Kv.ModRevision)}
		if e.Type != EventDelete {
			v.stored = e.Kv.Value
		}
		s.saw(v.seen, false)
		err = s.judge(ctx, v)
	}
	return err
}

// refresh reads the ring and judges it.
func (s *StoredKeyring) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.client.cfg.RequestTimeout)
	defer cancel()
	v, err := s.read(ctx, opFollow)
	if err == nil {
		err = s.judge(ctx, v)
	}
	return s.settle(err)
}

const opFollow = "follow keyring"

// settle records the result of a look. It returns an error that another look may cure; a
// ring that is gone or refused is followed on until that changes.
func (s *StoredKeyring) settle(err error) error {
	err = answered(opFollow, s.key, err)
	if err == nil || errors.Is(err, ErrKeyringReplaced) || errors.Is(err, ErrKeyNotFound) {
		s.note(err)
		return nil
	}
	return err
}
