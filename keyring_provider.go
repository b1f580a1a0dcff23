package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/blueprint-go/etcd/internal/errs"
)

// KeyProvider supplies keys from elsewhere: Vault, a cloud's key management service, a
// file. A client asks it when it reads a value whose key is not in its [Keyring], puts
// the key into the ring to decrypt, and does not ask again while the key is there. It
// must be safe for concurrent use.
//
// Many values with one unknown key cause one call, and the keys that a list lacks are
// asked for at the same time. Whoever can write to etcd can invent IDs. So an ID that the
// provider does not know is not asked for again for ten seconds, and at most 32 calls are
// under way at a time; a failed one counts for a second longer. Other calls wait for
// their turn within their deadline. Those that never failed before come first, and a read
// of one value does not wait behind a long list.
type KeyProvider interface {
	// EncryptionKey returns the key with that ID. An error that matches [ErrUnknownKey]
	// means that there is no such key: values with it are undecodable. A nil key without
	// an error, a key with another ID, and one that may only encrypt mean the same. Any
	// other error means that the key is unavailable at the moment: it is kept in the
	// error of the read, which matches [ErrKeyUnavailable] and is retryable, and the key
	// is asked for again after a second.
	//
	// The context has the values of the context of the first read that lacks the key. It
	// ends after [Config.RequestTimeout], and when the client is closed, but not with
	// that read: others may wait for the key. Nobody waits for a call that goes on after
	// that.
	EncryptionKey(ctx context.Context, id KeyID) (*EncryptionKey, error)
}

const (
	providerPlaces = 32 // calls under way or just failed
	// providerRetry and providerPause are how long an ID is not asked for again that the
	// provider doesn't know, or can't supply at the moment.
	providerRetry = 10 * time.Second
	providerPause = time.Second
	// providerMemory bounds how many failed IDs are remembered.
	providerMemory = 1 << 14
)

// keyLookup asks a provider for keys, once for each.
type keyLookup struct {
	provider KeyProvider
	ring     *Keyring
	timeout  time.Duration   // of one call
	life     context.Context // of the client

	mu      sync.Mutex // never held over a call of the provider
	places  int        // free ones
	pending map[KeyID]*keyCall
	waiting []*keyCall // pending calls without a place
	failed  map[KeyID]keyFailure
}

// keyCall is a call under way, or one that waits for a place. Fields below done are set
// when it is closed.
type keyCall struct {
	id     KeyID
	values context.Context // of the first reader's context, without its end
	again  bool            // it failed before
	turn   int             // how many keys the reader asked for before this one
	// readers wait for the call. Without any, a call that has no place is dropped.
	readers int
	ended   bool

	done     chan struct{}
	err      error
	panicked any // until a reader has taken it
}

// keyFailure is why a key is unavailable, valid until a time. It is kept for longer, to
// let other keys go first.
type keyFailure struct {
	err   error
	until time.Time
}

func newKeyLookup(life context.Context, p KeyProvider, ring *Keyring, timeout time.Duration) *keyLookup {
	return &keyLookup{
		provider: p, ring: ring, timeout: timeout, life: life,
		places: providerPlaces, pending: map[KeyID]*keyCall{}, failed: map[KeyID]keyFailure{},
	}
}

// find puts keys into the ring, and returns the reason for each key for which it failed.
// The errors match ErrUnknownKey or ErrKeyUnavailable. It returns at the latest when ctx
// ends.
func (l *keyLookup) find(ctx context.Context, ids ...KeyID) map[KeyID]error {
	failed := map[KeyID]error{}
	calls := l.join(ctx, ids, failed)
	defer l.leave(calls)
	for _, call := range calls {
		if !call.wait(ctx) {
			failed[call.id] = unavailableKey(call.id, errs.OfContext(ctx))
			continue
		}
		if p := l.takePanic(call); p != nil {
			panic(p) // a bug is not hidden from the caller that met it
		}
		if call.err != nil {
			failed[call.id] = call.err
		}
	}
	return failed
}

// wait waits for the end of the call, or of ctx. It prefers a result that is already
// there.
func (c *keyCall) wait(ctx context.Context) bool {
	select {
	case <-c.done:
		return true
	default:
	}
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// unavailableKey is the error for a key that can't be had because of cause.
func unavailableKey(id KeyID, cause error) error {
	return errs.WithKind(fmt.Errorf("%w: %s", ErrKeyUnavailable, id), cause)
}

// unknownKey is the error for a key that does not exist.
func unknownKey(id KeyID, why string) error { return fmt.Errorf("%w: %s: %s", ErrUnknownKey, id, why) }

// join returns the calls for the keys that the ring lacks, and puts into failed what is
// known about keys that need none.
func (l *keyLookup) join(ctx context.Context, ids []KeyID, failed map[KeyID]error) []*keyCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var calls []*keyCall
	for _, id := range ids {
		before, failedBefore := l.failed[id]
		switch {
		case l.ring.has(id):
			continue
		case l.ring.onlyWrites(id):
			failed[id] = unknownKey(id, "the ring may only encrypt with it")
			continue
		case failedBefore && now.Before(before.until):
			failed[id] = before.err
			continue
		case ctx.Err() != nil:
			failed[id] = unavailableKey(id, errs.OfContext(ctx))
			continue
		}
		call := l.pending[id]
		if call == nil {
			call = &keyCall{id: id, values: context.WithoutCancel(ctx), again: failedBefore, turn: len(calls), done: make(chan struct{})}
			l.pending[id] = call
			l.waiting = append(l.waiting, call)
		}
		call.readers++
		calls = append(calls, call)
	}
	l.begin()
	return calls
}

// leave records that a reader no longer waits for these calls.
func (l *keyLookup) leave(calls []*keyCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	unwanted := false
	for _, call := range calls {
		call.readers--
		unwanted = unwanted || call.readers == 0
	}
	if !unwanted {
		return
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(call *keyCall) bool {
		if call.readers > 0 {
			return false
		}
		delete(l.pending, call.id)
		return true
	})
}

// begin starts as many calls as there are places for. The lock is held.
func (l *keyLookup) begin() {
	for l.places > 0 && len(l.waiting) > 0 {
		best := 0
		for i, call := range l.waiting {
			if call.before(l.waiting[best]) {
				best = i
			}
		}
		call := l.waiting[best]
		l.waiting = slices.Delete(l.waiting, best, best+1)
		l.places--
		// The goroutine ends with the provider's call, whose context ends after timeout
		// and with the client. Close does not wait for a provider that ignores both; its
		// call goes on by itself and keeps a place.
		go l.call(call)
	}
}

// before reports whether c goes before a call that came earlier.
func (c *keyCall) before(other *keyCall) bool {
	if c.again != other.again {
		return other.again
	}
	return c.turn < other.turn
}

// call makes a call and then frees its place for the next one.
func (l *keyLookup) call(call *keyCall) {
	ctx, cancel := context.WithTimeout(call.values, l.timeout)
	defer cancel()
	defer context.AfterFunc(l.life, cancel)()
	// The readers don't wait for a provider that does not return.
	late := context.AfterFunc(ctx, func() { l.finish(call, unavailableKey(call.id, l.ended(ctx)), nil) })
	err, panicked := l.ask(ctx, call.id)
	late()
	l.finish(call, err, panicked)
	if err == nil {
		l.free() // a success costs nothing
		return
	}
	time.AfterFunc(providerPause, l.free)
}

// ended returns why the context of a call has ended.
func (l *keyLookup) ended(ctx context.Context) error {
	if l.life.Err() != nil {
		return context.Cause(l.life)
	}
	return errs.OfContext(ctx)
}

func (l *keyLookup) free() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.places++
	l.begin()
}

var errProviderPanicked = errors.New("the provider panicked")

// ask calls the provider and puts the key into the ring.
func (l *keyLookup) ask(ctx context.Context, id KeyID) (err error, panicked any) { //nolint:revive,staticcheck // a panic is no error
	returned := false
	defer func() {
		if !returned {
			if panicked = recover(); panicked == nil {
				panicked = errProviderPanicked // it ended its goroutine
			}
			err = unavailableKey(id, errProviderPanicked)
		}
	}()
	key, err := l.provider.EncryptionKey(ctx, id)
	returned = true
	switch {
	case err != nil && errors.Is(err, ErrUnknownKey) && !errors.Is(err, ErrKeyUnavailable):
		return errs.WithKind(fmt.Errorf("%w: %s", ErrUnknownKey, id), err), nil
	case err != nil && ctx.Err() != nil:
		return unavailableKey(id, errs.WithKind(l.ended(ctx), err)), nil
	case err != nil:
		return unavailableKey(id, err), nil
	case key == nil:
		return unknownKey(id, "the provider has none"), nil
	case !key.usable() || key.ID() != id:
		return unknownKey(id, "the provider returned another key"), nil
	case key.encryptOnly:
		return unknownKey(id, "the provider returned a key that may only encrypt"), nil
	}
	return l.ring.add(key), nil
}

// finish gives the readers the result of a call, unless they were already told that it
// took too long.
func (l *keyLookup) finish(call *keyCall, err error, panicked any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		delete(l.failed, call.id) // too late for some readers, but not for others
	}
	if call.ended {
		return
	}
	call.ended, call.err, call.panicked = true, err, panicked
	delete(l.pending, call.id)
	if err != nil {
		l.remember(call.id, err)
	}
	close(call.done)
}

// remember keeps a failure. The lock is held.
func (l *keyLookup) remember(id KeyID, err error) {
	wait := providerPause
	if errors.Is(err, ErrUnknownKey) {
		wait = providerRetry
	}
	if len(l.failed) >= providerMemory {
		for other := range l.failed { // any
			delete(l.failed, other)
			break
		}
	}
	l.failed[id] = keyFailure{err: err, until: time.Now().Add(wait)}
}

// takePanic returns the provider's panic value, to one reader only.
func (l *keyLookup) takePanic(call *keyCall) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := call.panicked
	call.panicked = nil
	return p
}
