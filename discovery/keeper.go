package discovery

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/blueprint-go/etcd"
)

// keeper keeps one lease for all registrations of a client with the same time to live. A lease
// that was lost is replaced when the first of them needs one. It has no goroutine.
type keeper struct {
	client *etcd.Client
	ttl    time.Duration
	users  int // the mu of keepers guards it

	mu      sync.Mutex // never held over a request
	session *etcd.Session
	grant   *grant // under way; nil if there is none
}

// grant is the request for a lease, whose outcome all that need one share.
type grant struct {
	done chan struct{}
	err  error
}

type keeperKey struct {
	client *etcd.Client
	ttl    time.Duration // in whole seconds, as the server has it
}

var keepers = struct {
	mu  sync.Mutex
	all map[keeperKey]*keeper
}{all: map[keeperKey]*keeper{}}

// keeperOf returns the keeper for one more registration, which releases it.
func keeperOf(client *etcd.Client, ttl time.Duration) *keeper {
	keepers.mu.Lock()
	defer keepers.mu.Unlock()
	key := keeperKey{client, ttl}.rounded()
	k := keepers.all[key]
	if k == nil {
		k = &keeper{client: client, ttl: key.ttl}
		keepers.all[key] = k
	}
	k.users++
	return k
}

func (k keeperKey) rounded() keeperKey {
	if rest := k.ttl % time.Second; rest > 0 && k.ttl-rest+time.Second > 0 {
		k.ttl += time.Second - rest
	}
	return k
}

// release takes back one keeperOf. It reports whether it was the last one: then the lease is
// revoked.
func (k *keeper) release(ctx context.Context) (last bool, err error) {
	keepers.mu.Lock()
	k.users--
	if last = k.users == 0; last {
		delete(keepers.all, keeperKey{k.client, k.ttl})
	}
	keepers.mu.Unlock()
	if !last {
		return false, nil
	}
	k.mu.Lock()
	s := k.session
	k.session = nil
	k.mu.Unlock()
	if s != nil {
		err = s.Close(ctx)
	}
	return true, err
}

// lease returns a session that lives. If there is none it is granted, in one round trip.
func (k *keeper) lease(ctx context.Context) (*etcd.Session, error) {
	for {
		k.mu.Lock()
		s, g := k.session, k.grant
		if s != nil && s.Context().Err() == nil {
			k.mu.Unlock()
			return s, nil
		}
		mine := g == nil
		if mine {
			g = &grant{done: make(chan struct{}), err: errPanicked}
			k.grant = g
		}
		k.mu.Unlock()
		if mine {
			return k.ask(ctx, g)
		}
		select {
		case <-g.done:
		case <-ctx.Done():
			return nil, ended(ctx)
		}
		// Of one that its own context has ended nothing is known.
		if g.err != nil && !errors.Is(g.err, context.Canceled) && !errors.Is(g.err, errPanicked) {
			return nil, g.err
		}
	}
}

// ask has the lease granted for all that wait for g.
func (k *keeper) ask(ctx context.Context, g *grant) (s *etcd.Session, err error) {
	defer func() { // also when a hook panics
		k.mu.Lock()
		defer k.mu.Unlock()
		if s != nil {
			k.session, g.err = s, nil
		} else if err != nil {
			g.err = err
		}
		k.grant = nil
		close(g.done)
	}()
	return k.client.NewSession(ctx, etcd.WithSessionTTL(k.ttl))
}

// forget gives up a session whose lease the server doesn't know any more, before the session
// learns that by its next renewal.
func (k *keeper) forget(s *etcd.Session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.session == s {
		k.session = nil
	}
}
