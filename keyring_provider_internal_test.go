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

// lookups is a keyLookup for a ring that has a key, of a client that can end.
type lookups struct {
	*keyLookup
	end context.CancelCauseFunc
}

// one is find for one key.
func (l lookups) one(ctx context.Context, id KeyID) error { return l.find(ctx, id)[id] }

// lookup returns a keyLookup, its provider, and a key to look for.
func lookup(t *testing.T, answer func(ctx context.Context, id KeyID) (*EncryptionKey, error)) (lookups, *providerFunc, *EncryptionKey) {
	t.Helper()
	ring, err := NewKeyring(keyNumber(t, 0))
	require.NoError(t, err)
	p := &providerFunc{key: answer}
	life, end := context.WithCancelCause(context.Background())
	t.Cleanup(func() { end(ErrClosed) })
	return lookups{newKeyLookup(life, p, ring, lookupTimeout), end}, p, keyNumber(t, 1)
}

func keyNumber(t *testing.T, n int) *EncryptionKey {
	t.Helper()
	key, err := NewEncryptionKey(fmt.Appendf(nil, "key number %010d", n))
	require.NoError(t, err)
	return key
}

// planted returns an ID that somebody has made up.
func planted(n int) KeyID { return KeyID([]byte(fmt.Sprintf("planted %08d", n))) }

var errNoSuchKey = fmt.Errorf("%w: not in the vault", ErrUnknownKey)

// knows returns a provider's function that has these keys and no others.
func knows(keys ...*EncryptionKey) func(context.Context, KeyID) (*EncryptionKey, error) {
	return func(_ context.Context, id KeyID) (*EncryptionKey, error) {
		for _, key := range keys {
			if key.ID() == id {
				return key, nil
			}
		}
		return nil, errNoSuchKey
	}
}

func TestProviderIsAskedOnceByAHundredReaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan *EncryptionKey)
		l, p, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { return <-release, nil })
		var readers sync.WaitGroup
		for range 100 {
			readers.Go(func() { require.NoError(t, l.one(t.Context(), key.ID())) })
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
		require.NoError(t, l.one(t.Context(), key.ID()))
		require.Equal(t, int64(1), p.calls.Load())
	})
}

func TestUnknownKeyIsNotAskedForAgainSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p, key := lookup(t, knows())
		err := l.one(t.Context(), key.ID())
		require.ErrorIs(t, err, errNoSuchKey)
		require.NotErrorIs(t, err, ErrKeyUnavailable)
		require.False(t, IsRetryable(err))
		<-time.After(10*time.Second - 1)
		require.ErrorIs(t, l.one(t.Context(), key.ID()), ErrUnknownKey)
		require.Equal(t, int64(1), p.calls.Load())
		require.Error(t, l.one(t.Context(), keyNumber(t, 2).ID()))
		require.Equal(t, int64(2), p.calls.Load(), "another key is another matter")

		<-time.After(1)
		p.key = knows(key)
		require.NoError(t, l.one(t.Context(), key.ID()))
		require.Equal(t, int64(3), p.calls.Load())
	})
}

func TestProviderOutageIsRetryableAndKeepsItsCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("vault is sealed")
		l, p, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { return nil, down })
		for range 3 {
			err := l.one(t.Context(), key.ID())
			require.ErrorIs(t, err, ErrKeyUnavailable)
			require.ErrorIs(t, err, down)
			require.NotErrorIs(t, err, ErrUnknownKey)
			require.True(t, IsRetryable(err))
		}
		require.Equal(t, int64(1), p.calls.Load(), "it is not hammered")
		<-time.After(providerPause)
		p.key = knows(key)
		require.NoError(t, l.one(t.Context(), key.ID()))
	})
}

func TestKeysThatAProviderKnowsCostNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var keys []*EncryptionKey
		var ids []KeyID
		for n := range 10 * providerPlaces {
			keys = append(keys, keyNumber(t, n+1))
			ids = append(ids, keys[n].ID())
		}
		l, _, _ := lookup(t, knows(keys...))
		began := time.Now()
		require.Empty(t, l.find(t.Context(), ids...))
		require.Zero(t, time.Since(began))
	})
}

func TestSlowProviderGetsManyQuestionsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p, _ := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) {
			<-time.After(100 * time.Millisecond)
			return nil, errNoSuchKey
		})
		var ids []KeyID
		for n := range providerPlaces {
			ids = append(ids, planted(n))
		}
		began := time.Now()
		require.Len(t, l.find(t.Context(), ids...), len(ids))
		require.Equal(t, 100*time.Millisecond, time.Since(began))

		// Those that failed hold their places for a second; the next one waits for it.
		require.ErrorIs(t, l.one(t.Context(), planted(-1)), ErrUnknownKey)
		require.Equal(t, 1200*time.Millisecond, time.Since(began))
		require.Equal(t, int64(providerPlaces+1), p.calls.Load())
	})
}

func TestPlantedIDsStarveNoOtherReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p, key := lookup(t, nil)
		p.key = knows(key)
		ctx, stop := context.WithCancel(t.Context())
		var lists sync.WaitGroup
		lists.Go(func() {
			for ctx.Err() == nil {
				var ids []KeyID
				for n := range 400 {
					ids = append(ids, planted(n))
				}
				list, done := context.WithTimeout(ctx, lookupTimeout)
				l.find(list, ids...)
				done()
				<-time.After(20 * time.Millisecond)
			}
		})
		<-time.After(300 * time.Millisecond)
		began := time.Now()
		require.NoError(t, l.one(t.Context(), key.ID()))
		require.LessOrEqual(t, time.Since(began), providerPause)
		stop()
		lists.Wait()
	})
}

func TestPlantedIDsHideAGenuineOneOnlyBriefly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p, key := lookup(t, nil)
		p.key = knows(key)
		var ids []KeyID
		for n := range 1000 { // more than are remembered as unknown at a time
			ids = append(ids, planted(n))
		}
		ids = append(ids, key.ID())
		for lists := 1; ; lists++ {
			ctx, cancel := context.WithTimeout(t.Context(), lookupTimeout)
			err := l.find(ctx, ids...)[key.ID()]
			cancel()
			if err == nil {
				break
			}
			require.ErrorIs(t, err, ErrKeyUnavailable, "it was not asked for: that says nothing")
			require.Less(t, lists, 10)
		}
	})
}

func TestKeyNobodyAskedForIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]*EncryptionKey{
		"nil": nil, "zero": {}, "another": keyNumber(t, 7), "encrypt only": keyNumber(t, 1).EncryptOnly(),
	} {
		l, _, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { return wrong, nil })
		require.ErrorIs(t, l.one(t.Context(), key.ID()), ErrUnknownKey, name)
		require.Equal(t, []KeyID{keyNumber(t, 0).ID()}, l.ring.IDs(), name)
	}
}

func TestWriteOnlyRingReadsNothingDespiteItsProvider(t *testing.T) {
	t.Parallel()
	l, p, key := lookup(t, nil)
	p.key = knows(key)
	require.NoError(t, l.ring.Replace(key.EncryptOnly()))
	require.ErrorIs(t, l.one(t.Context(), key.ID()), ErrUnknownKey)
	require.Empty(t, l.ring.IDs())
	require.Zero(t, p.calls.Load())

	require.NoError(t, l.ring.Replace(keyNumber(t, 2)))
	p.key = func(context.Context, KeyID) (*EncryptionKey, error) {
		return key, l.ring.Replace(key.EncryptOnly()) // while the call is under way
	}
	require.ErrorIs(t, l.one(t.Context(), key.ID()), ErrUnknownKey)
	require.Empty(t, l.ring.IDs())
}

func TestDepartedReaderTakesTheProviderFromNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan *EncryptionKey)
		l, p, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { return <-release, nil })
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error), make(chan error)
		go func() { first <- l.one(ctx, key.ID()) }() // it is the one that asks
		synctest.Wait()
		go func() { second <- l.one(t.Context(), key.ID()) }()
		synctest.Wait()
		cancel()
		err := <-first
		require.ErrorIs(t, err, ErrKeyUnavailable)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, IsRetryable(err), "who cancelled knows")
		release <- key
		require.NoError(t, <-second)
		require.Equal(t, int64(1), p.calls.Load())
	})
}

func TestProviderIsNotAskedForADepartedReader(t *testing.T) {
	t.Parallel()
	l, p, key := lookup(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.one(ctx, key.ID())
	require.ErrorIs(t, err, ErrKeyUnavailable)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, p.calls.Load())
}

func TestWaitForAPlaceEndsWithTheReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l, p, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { <-release; return nil, errNoSuchKey })
		var ids []KeyID
		for n := range providerPlaces {
			ids = append(ids, planted(n))
		}
		full := make(chan struct{})
		go func() { defer close(full); l.find(t.Context(), ids...) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := l.one(ctx, key.ID())
		require.ErrorIs(t, err, ErrKeyUnavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 300*time.Millisecond, time.Since(began))
		close(release)
		<-full
		<-time.After(2 * providerPause)
		require.Equal(t, int64(providerPlaces), p.calls.Load(), "nobody wants it any more")
	})
}

func TestProviderThatPanicsLeavesNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l, p, key := lookup(t, func(context.Context, KeyID) (*EncryptionKey, error) { <-release; panic("broken") })
		outcomes := make(chan any, 2)
		for range 2 {
			go func() {
				defer func() {
					if r := recover(); r != nil {
						outcomes <- r
					}
				}()
				outcomes <- l.one(t.Context(), key.ID())
			}()
		}
		synctest.Wait()
		close(release)
		met, told := <-outcomes, <-outcomes
		if _, ok := met.(error); ok {
			met, told = told, met
		}
		require.Equal(t, "broken", met, "a bug is not hidden from who met it")
		require.ErrorIs(t, told.(error), ErrKeyUnavailable)
		require.ErrorIs(t, l.one(t.Context(), key.ID()), ErrKeyUnavailable)
		require.Equal(t, int64(1), p.calls.Load())
	})
}

func TestProviderCallEndsInTimeOrWithClient(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _ KeyID) (*EncryptionKey, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	release := make(chan struct{})
	deaf := func(context.Context, KeyID) (*EncryptionKey, error) { <-release; return nil, errNoSuchKey }
	for _, behaves := range []func(context.Context, KeyID) (*EncryptionKey, error){hang, deaf} {
		synctest.Test(t, func(t *testing.T) {
			release = make(chan struct{})
			defer close(release)
			l, p, key := lookup(t, behaves)
			began := time.Now()
			err := l.one(t.Context(), key.ID())
			require.ErrorIs(t, err, ErrKeyUnavailable)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, lookupTimeout, time.Since(began))
			require.Error(t, l.one(t.Context(), key.ID()))
			require.Equal(t, int64(1), p.calls.Load(), "it failed: the reader did not give up")
			require.Equal(t, lookupTimeout, time.Since(began))
		})
		synctest.Test(t, func(t *testing.T) {
			release = make(chan struct{})
			defer close(release)
			l, _, key := lookup(t, behaves)
			found := make(chan error)
			ctx, stop := (&codec{life: l.life}).bounded(t.Context(), time.Hour)
			defer stop()
			go func() { found <- l.one(ctx, key.ID()) }()
			synctest.Wait()
			l.end(ErrClosed)
			began := time.Now()
			err := <-found
			require.ErrorIs(t, err, ErrKeyUnavailable)
			require.ErrorIs(t, err, ErrClosed)
			require.False(t, IsRetryable(err))
			require.Zero(t, time.Since(began))
		})
	}
}

func TestWatchPatienceIsSpentOnceAndReturnsSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPatience(lookupTimeout)
		wait := func(in time.Duration) time.Duration {
			allowed := p.allows()
			waited := min(in, allowed)
			<-time.After(waited)
			if in > allowed {
				p.spend(waited)
			}
			return waited
		}
		began := time.Now()
		for range 1000 {
			wait(time.Hour)
		}
		require.Less(t, time.Since(began), 3*time.Second)
		// Once the service is back, an event soon waits for as long as it takes.
		back := time.Now()
		for wait(50*time.Millisecond) < 50*time.Millisecond {
			<-time.After(time.Millisecond)
		}
		require.Less(t, time.Since(back), 4*time.Second)
		for range 100 {
			require.Equal(t, 50*time.Millisecond, wait(50*time.Millisecond), "what ends well costs nothing")
		}
	})
}
