package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/blueprint-go/etcd/internal/errs"
)

const (
	// lookSpan is how long one look at the stored ring answers for all unknown keys.
	// Whoever can write values can invent IDs, and must not make every process read the
	// ring for each.
	lookSpan = 100 * time.Millisecond
	// lookRetry is the same for a look that failed.
	lookRetry = time.Second
)

// looks are the reads of a stored ring that values and writes ask for, one at a time.
type looks struct {
	mu   sync.Mutex // never held over a look
	last *look      // under way, or the last one; nil before the first
}

// look is one of them. Read err only after done is closed.
type look struct {
	began time.Time
	done  chan struct{}
	err   error
}

// look makes one request read the stored ring; callers that ask meanwhile share it. It
// returns when that is done, or when ctx ends.
func (s *StoredKeyring) look(ctx context.Context) error {
	if s.isClosed() {
		return ErrClosed
	}
	asked := time.Now()
	for {
		l, err := s.joinLook(asked)
		if err != nil {
			return err
		}
		select {
		case <-l.done:
			if l.answers(asked) {
				return l.err
			}
		case <-ctx.Done():
			return errs.OfContext(ctx)
		}
	}
}

// answers reports whether a finished look answers a caller who asked at that time,
// because it began later, or hardly before.
func (l *look) answers(asked time.Time) bool {
	span := lookSpan
	if l.err != nil {
		span = lookRetry
	}
	return asked.Sub(l.began) < span
}

// joinLook returns the look under way, the last one if it still answers, or a new one.
func (s *StoredKeyring) joinLook(asked time.Time) (*look, error) {
	s.looks.mu.Lock()
	defer s.looks.mu.Unlock()
	if l := s.looks.last; l != nil {
		select {
		case <-l.done:
			if l.answers(asked) {
				return l, nil
			}
		default:
			return l, nil
		}
	}
	l := &look{began: time.Now(), done: make(chan struct{})}
	err := s.client.rpc.Start(func() {
		defer close(l.done)
		l.err = s.refresh(s.life)
	})
	if err == nil {
		s.looks.last = l
	}
	return l, err
}

// lacks returns why a key is not in the ring after a look that ended with err, or nil if
// it is there now. A failed look says nothing about the key.
func (s *StoredKeyring) lacks(id KeyID, err error) error {
	switch {
	case s.ring.has(id):
		return nil
	case s.isClosed():
		return fmt.Errorf("%w: %s", ErrUnknownKey, id)
	case err != nil:
		return unavailableKey(id, err)
	case s.isRetired(id):
		return fmt.Errorf("%w: %s is retired", ErrUnknownKey, id)
	}
	return errs.WithKind(fmt.Errorf("%w: %s", ErrUnknownKey, id), s.Err()) // the stored ring may have been refused
}

func (s *StoredKeyring) isRetired(id KeyID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.followed().taken.find(id)
	return err == nil && !k.Retired.IsZero()
}

// fresh reports why the primary key must not be used any more. It looks at the stored
// ring if that was not heard of for too long.
func (s *StoredKeyring) fresh(ctx context.Context) error {
	if s.isFresh() {
		return nil
	}
	err := s.look(ctx)
	if s.isFresh() {
		return nil
	}
	if err == nil {
		err = s.Err() // it was read but not taken over
	}
	return errs.WithKind(ErrKeyringStale, err)
}

// upToDate reads the stored ring and reports why the ring in use differs from it. It
// accepts a closed ring.
func (s *StoredKeyring) upToDate(ctx context.Context) error {
	var err error
	if !s.isClosed() {
		if err = s.refresh(ctx); err == nil {
			s.mu.Lock()
			err = s.err // not Err: where the ring lacks keys, this process can rewrite their values
			s.mu.Unlock()
		}
	}
	return err
}

func (s *StoredKeyring) isClosed() bool { return s.life.Err() != nil }

// isFresh reports whether the keys in use were known to be right recently enough.
func (s *StoredKeyring) isFresh() bool {
	return time.Since(s.began)-time.Duration(s.confirmed.Load()) < s.options.freshness
}
