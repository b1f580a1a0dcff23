package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// providerFunc is a KeyProvider of a function that counts its calls.
type providerFunc struct {
	calls atomic.Int64
	key   func(ctx context.Context, id KeyID) (*EncryptionKey, error)
}

func (p *providerFunc) EncryptionKey(ctx context.Context, id KeyID) (*EncryptionKey, error) {
	p.calls.Add(1)
	return p.key(ctx, id)
}

const lookupTimeout = 5 * time.Second

// lookup returns a keyLookup for a ring that has a key, and one to look for.
func lookup(t *testing.T, answer func(ctx context.Context, id KeyID) (*EncryptionKey, error)) (*keyLookup, *providerFunc, *EncryptionKey) {
	t.Helper()
	ring, err := NewKeyring(keyNumber(t, 0))
	require.NoError(t, err)
	p := &providerFunc{key: answer}
	l := newKeyLookup(p, ring, lookupTimeout)
	t.Cleanup(l.end)
	return l, p, keyNumber(t, 1)
}

func keyNumber(t *testing.T, n int) *EncryptionKey {
	t.Helper()
	key, err := NewEncryptionKey(fmt.Appendf(nil, "key number %010d", n))
	require.NoError(t, err)
	return key
}

func TestProviderIsAskedOnceByAHundredReaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan *EncryptionKey)
		l, p, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { return <-release, nil })
		var readers sync.WaitGroup
		for range 100 {
			readers.Go(func() { require.NoError(t, l.find(t.Context(), key.ID())) })
		}
		synctest.Wait()
		require.Equal(t, int64(1), p.calls.Load())
		release <- key
		readers.Wait()
		require.True(t, l.ring.has(key.ID()))
		primary, ok := l.ring.Primary()
		require.True(t, ok)
		require.Equal(t, keyNumber(t, 0).ID(), primary, "it only decrypts")

		// One that looked into the ring before, and comes here after.
		require.NoError(t, l.find(t.Context(), key.ID()))
		require.Equal(t, int64(1), p.calls.Load())
	})
}

func TestProviderThatFailedIsNotAskedForTheSameKeyForTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("vault is sealed")
		answer := down
		var key *EncryptionKey
		l, p, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { return key, answer })
		err := l.find(t.Context(), key.ID())
		require.ErrorIs(t, err, ErrUnknownKey)
		require.ErrorIs(t, err, down)
		<-time.After(10*time.Second - 1)
		require.ErrorIs(t, l.find(t.Context(), key.ID()), ErrUnknownKey)
		require.Equal(t, int64(1), p.calls.Load())
		require.Error(t, l.find(t.Context(), keyNumber(t, 2).ID()))
		require.Equal(t, int64(2), p.calls.Load(), "another key is another matter")

		<-time.After(1)
		answer = nil
		require.NoError(t, l.find(t.Context(), key.ID()))
		require.Equal(t, int64(3), p.calls.Load())
	})
}

func TestProviderIsAskedTenTimesASecondAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p, _ := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { return nil, errors.New("no such key") })
		n := 1
		ask := func(times int) {
			for range times {
				n++
				require.ErrorIs(t, l.find(t.Context(), keyNumber(t, n).ID()), ErrUnknownKey)
			}
		}
		ask(5)
		<-time.After(500 * time.Millisecond)
		ask(15)
		require.Equal(t, int64(10), p.calls.Load())
		<-time.After(500*time.Millisecond - 1)
		ask(1)
		require.Equal(t, int64(10), p.calls.Load())
		<-time.After(1)
		ask(15) // the first five are a second ago, the others are not
		require.Equal(t, int64(15), p.calls.Load())

		// A key that was turned away for the rate alone did not fail.
		<-time.After(time.Second)
		p.key = func(context.Context, KeyID) (*EncryptionKey, error) { return keyNumber(t, n), nil }
		require.NoError(t, l.find(t.Context(), keyNumber(t, n).ID()))
	})
}

func TestKeyThatWasNotAskedForIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]*EncryptionKey{"nil": nil, "zero": {}, "another": keyNumber(t, 7)} {
		l, _, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { return wrong, nil })
		require.ErrorIs(t, l.find(t.Context(), key.ID()), ErrUnknownKey, name)
		require.Equal(t, []KeyID{keyNumber(t, 0).ID()}, l.ring.IDs(), name)
	}
}

func TestReaderThatGivesUpDoesNotWaitForTheProvider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan *EncryptionKey)
		l, p, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { return <-release, nil })
		first := make(chan error)
		go func() { first <- l.find(t.Context(), key.ID()) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		second := make(chan error)
		go func() { second <- l.find(ctx, key.ID()) }()
		synctest.Wait()
		cancel()
		err := <-second
		require.ErrorIs(t, err, ErrUnknownKey)
		require.ErrorIs(t, err, context.Canceled)
		release <- key
		require.NoError(t, <-first)
		require.Equal(t, int64(1), p.calls.Load())
	})
}

func TestReaderThatAskedAndGaveUpIsNotFollowedByTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var key *EncryptionKey
		l, p, key := lookup(t, nil)
		p.key = func(ctx context.Context, _ KeyID) (*EncryptionKey, error) {
			if p.calls.Load() > 1 {
				return key, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error)
		go func() { first <- l.find(ctx, key.ID()) }()
		synctest.Wait()
		var others sync.WaitGroup
		for range 10 {
			others.Go(func() { require.NoError(t, l.find(t.Context(), key.ID())) })
		}
		synctest.Wait()
		cancel()
		err := <-first
		require.ErrorIs(t, err, ErrUnknownKey)
		require.ErrorIs(t, err, context.Canceled)
		others.Wait()
		require.Equal(t, int64(2), p.calls.Load())
	})
}

func TestProviderIsNotAskedForOneWhoGaveUp(t *testing.T) {
	t.Parallel()
	l, p, key := lookup(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.find(ctx, key.ID())
	require.ErrorIs(t, err, ErrUnknownKey)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, p.calls.Load())
}

func TestProviderThatPanicsLeavesNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l, p, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { <-release; panic("broken") })
		recovered := make(chan any)
		go func() {
			defer func() { recovered <- recover() }()
			_ = l.find(t.Context(), key.ID())
		}()
		synctest.Wait()
		waiting := make(chan error)
		go func() { waiting <- l.find(t.Context(), key.ID()) }()
		synctest.Wait()
		close(release)
		require.Equal(t, "broken", <-recovered, "a bug is not hidden from who met it")
		require.ErrorIs(t, <-waiting, ErrUnknownKey)
		require.ErrorIs(t, l.find(t.Context(), key.ID()), ErrUnknownKey)
		require.Equal(t, int64(1), p.calls.Load())
	})
}

func TestCallOfAProviderEndsWithItsTimeAndWithTheClient(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _ KeyID) (*EncryptionKey, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		l, p, key := lookup(t, hang)
		began := time.Now()
		err := l.find(t.Context(), key.ID())
		require.ErrorIs(t, err, ErrUnknownKey)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, lookupTimeout, time.Since(began))
		require.Error(t, l.find(t.Context(), key.ID()))
		require.Equal(t, int64(1), p.calls.Load(), "it failed: the reader did not give up")
	})
	synctest.Test(t, func(t *testing.T) {
		l, _, key := lookup(t, hang)
		found := make(chan error)
		go func() { found <- l.find(t.Context(), key.ID()) }()
		synctest.Wait()
		l.end()
		began := time.Now()
		require.ErrorIs(t, <-found, ErrUnknownKey)
		require.Zero(t, time.Since(began))
	})
}
