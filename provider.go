package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// KeyProvider supplies keys from elsewhere: Vault, a cloud's key management
// service, a file. A client asks it when it meets a value whose key is not in its
// [Keyring], puts the key into the ring to decrypt, and does not ask for it
// again while it is there. It must be safe for concurrent use.
//
// Many values with one unknown key cause one call. An ID that the provider does
// not know is not asked for again for ten seconds, and no more than ten calls are
// made in one second, since whoever can write to etcd can invent IDs.
type KeyProvider interface {
	// EncryptionKey returns the key with that ID. The context is that of the
	// read, or of the watch, that met the value; it ends after
	// [Config.RequestTimeout] at the latest, and when the client is closed. An
	// error, or a key with another ID, leaves the value undecodable: its error
	// matches [ErrUnknownKey] and the provider's.
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
	timeout  time.Duration // of one call
	// life ends with the client.
	life context.Context
	end  context.CancelFunc

	mu      sync.Mutex // never held over a call of the provider
	pending map[KeyID]*keyCall
	// failed holds when the provider last failed for an ID, for providerRetry.
	failed map[KeyID]time.Time
	// calls are the times of the last calls, oldest first, for the rate.
	calls []time.Time
}

// keyCall is a call under way, or just ended. The fields below done are set when
// it is closed.
type keyCall struct {
	done chan struct{}
	err  error
	// abandoned says that the caller whose context the call had gave up: this
	// says nothing about the key.
	abandoned bool
}

func newKeyLookup(p KeyProvider, ring *Keyring, timeout time.Duration) *keyLookup {
	l := &keyLookup{provider: p, ring: ring, timeout: timeout, pending: map[KeyID]*keyCall{}, failed: map[KeyID]time.Time{}}
	l.life, l.end = context.WithCancel(context.Background())
	return l
}

// find puts the key into the ring. Its errors match ErrUnknownKey.
func (l *keyLookup) find(ctx context.Context, id KeyID) error {
	for {
		call, first, err := l.join(ctx, id)
		switch {
		case call == nil:
			return err
		case first:
			return l.lead(ctx, id, call)
		}
		select {
		case <-call.done:
			if !call.abandoned {
				return call.err
			}
		case <-ctx.Done():
			return withKind(ErrUnknownKey, contextError(ctx))
		}
	}
}

// join returns the call for id that is under way, or a new one, which is the
// caller's to make. It returns none if the ring has the key by now, or with the
// reason why no call may be made.
func (l *keyLookup) join(ctx context.Context, id KeyID) (call *keyCall, first bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ring.has(id) {
		return nil, false, nil
	}
	if call := l.pending[id]; call != nil {
		return call, false, nil
	}
	if ctx.Err() != nil {
		return nil, false, withKind(ErrUnknownKey, contextError(ctx))
	}
	if err := l.allow(id, time.Now()); err != nil {
		return nil, false, err
	}
	call = &keyCall{done: make(chan struct{})}
	l.pending[id] = call
	return call, true, nil
}

// allow counts a call, or reports why it may not be made now. The lock is held.
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

var errProviderPanicked = errors.New("the provider panicked")

// lead makes a call that others may wait for.
func (l *keyLookup) lead(ctx context.Context, id KeyID, call *keyCall) error {
	call.err = withKind(ErrUnknownKey, errProviderPanicked) // stands if it does
	defer l.finish(ctx, id, call)
	call.err = l.ask(ctx, id)
	return call.err
}

func (l *keyLookup) ask(ctx context.Context, id KeyID) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	defer context.AfterFunc(l.life, cancel)()
	key, err := l.provider.EncryptionKey(ctx, id)
	switch {
	case err != nil:
		return withKind(fmt.Errorf("%w: %s", ErrUnknownKey, id), err)
	case !key.usable() || key.ID() != id:
		return fmt.Errorf("%w: %s: the provider returned another key", ErrUnknownKey, id)
	}
	return l.ring.add(key)
}

func (l *keyLookup) finish(ctx context.Context, id KeyID, call *keyCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, id)
	call.abandoned = call.err != nil && ctx.Err() != nil
	if call.err != nil && !call.abandoned {
		l.failed[id] = time.Now()
	}
	close(call.done)
}
