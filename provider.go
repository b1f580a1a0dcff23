package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// KeyProvider supplies keys from elsewhere: Vault, a cloud's key management
// service, a file. A client asks it when it meets a value whose key is not in its
// [Keyring], puts the key into the ring to decrypt, and does not ask for it
// again. It must be safe for concurrent use.
//
// Many values with one unknown key cause one call. An ID that the provider does
// not know is not asked for again for ten seconds, and no more than ten different
// IDs are asked for in one second, since whoever can write to etcd can invent
// them.
type KeyProvider interface {
	// EncryptionKey returns the key with that ID. The context is that of the
	// read, or of the watch, that met the value. An error, or a key with another
	// ID, leaves the value undecodable: its error matches [ErrUnknownKey] and the
	// provider's.
	EncryptionKey(ctx context.Context, id KeyID) (*EncryptionKey, error)
}

const (
	providerRetry = 10 * time.Second
	providerRate  = 10 // calls
	providerSpan  = time.Second
)

// keyLookup asks a provider for keys, once for each.
type keyLookup struct {
	provider KeyProvider
	ring     *Keyring

	mu      sync.Mutex // never held over a call of the provider
	pending map[KeyID]*keyCall
	// failed holds when the provider last failed for an ID, for providerRetry.
	failed map[KeyID]time.Time
	// calls are the times of the last calls, oldest first, for the rate.
	calls []time.Time
}

// keyCall is a call under way, or just ended.
type keyCall struct {
	done chan struct{}
	err  error
}

func newKeyLookup(p KeyProvider, ring *Keyring) *keyLookup {
	return &keyLookup{provider: p, ring: ring, pending: map[KeyID]*keyCall{}, failed: map[KeyID]time.Time{}}
}

// find puts the key into the ring. Its errors match ErrUnknownKey.
func (l *keyLookup) find(ctx context.Context, id KeyID) error {
	l.mu.Lock()
	call, under := l.pending[id]
	if !under {
		if err := l.allow(id, time.Now()); err != nil {
			l.mu.Unlock()
			return err
		}
		call = &keyCall{done: make(chan struct{})}
		l.pending[id] = call
	}
	l.mu.Unlock()
	if !under {
		call.err = l.ask(ctx, id)
		l.finish(id, call)
		return call.err
	}
	select {
	case <-call.done:
		return call.err
	case <-ctx.Done():
		return withKind(ErrUnknownKey, ctx.Err())
	}
}

// allow reports why a call may not be made now. The lock is held.
func (l *keyLookup) allow(id KeyID, now time.Time) error {
	for known, at := range l.failed {
		if now.Sub(at) >= providerRetry {
			delete(l.failed, known)
		}
	}
	if _, recently := l.failed[id]; recently {
		return fmt.Errorf("%w: %s: the provider failed for it a moment ago", ErrUnknownKey, id)
	}
	for len(l.calls) > 0 && now.Sub(l.calls[0]) >= providerSpan {
		l.calls = l.calls[1:]
	}
	if len(l.calls) >= providerRate {
		return fmt.Errorf("%w: %s: too many unknown keys at once", ErrUnknownKey, id)
	}
	l.calls = append(l.calls, now)
	return nil
}

// ask makes the call. The one who makes it gives it its context; those who wait
// for it and outlive it ask again with the next value.
func (l *keyLookup) ask(ctx context.Context, id KeyID) error {
	key, err := l.provider.EncryptionKey(ctx, id)
	switch {
	case err != nil:
		return withKind(fmt.Errorf("%w: %s", ErrUnknownKey, id), err)
	case !key.usable() || key.ID() != id:
		return fmt.Errorf("%w: %s: the provider returned another key", ErrUnknownKey, id)
	}
	return l.ring.add(key)
}

func (l *keyLookup) finish(id KeyID, call *keyCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, id)
	if call.err != nil {
		l.failed[id] = time.Now()
	}
	close(call.done)
}
