package integration

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// contestants are those that a lock takes turns with WithConcurrencyKeys: each takes the lock of
// a name, and returns what gives it back.
var contestants = map[string]func(t *testing.T, srv *etcdtest.Server, c *clientv3.Client, name string) (release func()){
	"mutex": func(t *testing.T, _ *etcdtest.Server, c *clientv3.Client, name string) func() {
		m, s := mutex(t, c, name)
		require.NoError(t, m.Lock(t.Context()))
		return func() {
			require.NoError(t, m.Unlock(t.Context()))
			require.NoError(t, s.Close())
		}
	},
	"election": func(t *testing.T, _ *etcdtest.Server, c *clientv3.Client, name string) func() {
		s, err := concurrency.NewSession(c)
		require.NoError(t, err)
		e := concurrency.NewElection(s, name)
		require.NoError(t, e.Campaign(t.Context(), "candidate"))
		require.NoError(t, e.Proclaim(t.Context(), "leader"))
		return func() {
			require.NoError(t, e.Resign(t.Context()))
			require.NoError(t, s.Close())
		}
	},
	"etcdctl lock": func(t *testing.T, srv *etcdtest.Server, _ *clientv3.Client, name string) func() {
		p := etcdctl(t, srv, "lock", name)
		require.Contains(t, next(t, p.lines), name+"/")
		return func() { p.end(t) }
	},
	"etcdctl elect": func(t *testing.T, srv *etcdtest.Server, _ *clientv3.Client, name string) func() {
		p := etcdctl(t, srv, "elect", name, "candidate")
		require.Contains(t, next(t, p.lines), name+"/")
		return func() { p.end(t) }
	},
	// What its Lock and Unlock do (provider/etcd/lock.go), which no module proxy serves.
	"provider": func(t *testing.T, _ *etcdtest.Server, c *clientv3.Client, name string) func() {
		s, err := concurrency.NewSession(c)
		require.NoError(t, err)
		m := concurrency.NewMutex(s, name)
		require.NoError(t, m.Lock(t.Context()))
		return func() {
			require.NoError(t, m.Unlock(t.Context()))
			require.NoError(t, s.Close())
		}
	},
}

// theirKeys are the options of a lock that takes turns with those of package concurrency.
var theirKeys = map[string]etcd.LockOption{"concurrency": etcd.WithConcurrencyKeys(), "both": etcd.WithBothKeys()}

func TestConcurrencyKeysExcludeBothWays(t *testing.T) {
	t.Parallel()
	for contestant, take := range contestants {
		for keys, option := range theirKeys {
			t.Run(contestant+"/"+keys, func(t *testing.T) {
				t.Parallel()
				srv := server(t)
				c := client(t, config(srv).WithTimeout(busyTimeout))
				ctx, name := within(t, patience), prefix(t)+"lock"
				l := newLock(t, c, name, option)

				release := take(t, srv, c.Raw(), name)
				acquired, err := l.TryLock(ctx)
				require.NoError(t, err)
				require.False(t, acquired, "theirs")
				keysUnder(t, c.Raw(), name+"/", 1)
				waited := make(chan error, 1)
				go func() { waited <- l.Lock(ctx) }()
				keysUnder(t, c.Raw(), name+"/", 2)
				require.Empty(t, waited)
				release()
				require.NoError(t, next(t, waited))

				released := make(chan func())
				go func() {
					defer close(released)
					released <- take(t, srv, c.Raw(), name)
				}()
				keysUnder(t, c.Raw(), name+"/", 2)
				require.NoError(t, c.Put(l.Guard(ctx), name+"-data", nil))
				require.Empty(t, released, "ours")
				require.NoError(t, l.Unlock(ctx))
				next(t, released)()
				keysUnder(t, c.Raw(), name+"/", 0)
				require.Zero(t, queue(t, c, name))
			})
		}
	}
}

func TestConcurrencyKeysAreThoseOfMutexes(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, name := within(t, patience), prefix(t)+"lock"
		for keys, option := range theirKeys {
			l := newLock(t, c, name, option)
			require.NoError(t, l.Lock(ctx))
			claims, err := l.Queue(ctx)
			require.NoError(t, err)
			require.Len(t, claims, 1)
			lease := int64(claims[0].Lease)
			bare, err := c.List(ctx, name+"/")
			require.NoError(t, err)
			require.Equal(t, []string{fmt.Sprintf("%s/%x", name, lease)}, bare)
			kv, err := c.Txn().If(
				etcd.AttachedLease(bare[0]).Equal(lease), etcd.CreateRevision(bare[0]).Equal(l.Token()),
			).Commit(ctx)
			require.NoError(t, err)
			require.True(t, kv.Succeeded)
			require.EqualValues(t, map[string]int{"concurrency": 0, "both": 1}[keys], queue(t, c, name))
			locked, err := newLock(t, c, name, option).IsLocked(ctx)
			require.NoError(t, err)
			require.True(t, locked)
			require.NoError(t, l.Close())
		}
	})
}

func TestBothKeysExcludeEitherKind(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"lock"
	own, theirs := newLock(t, c, name), newLock(t, c, name, etcd.WithConcurrencyKeys())
	both, other := newLock(t, c, name, etcd.WithBothKeys()), newLock(t, c, name, etcd.WithBothKeys())
	all := []*etcd.Lock{own, theirs, both, other}
	for _, l := range all {
		acquired, err := l.TryLock(ctx)
		require.NoError(t, err)
		require.True(t, acquired)
		for _, m := range all {
			acquired, err := m.TryLock(ctx)
			require.NoError(t, err)
			require.Equal(t, l == own && m == theirs || l == theirs && m == own, acquired)
			if acquired {
				require.NoError(t, m.Unlock(ctx))
			}
		}
		require.NoError(t, l.Unlock(ctx))
	}

	// Who waits for both holds neither back from the other.
	require.NoError(t, own.Lock(ctx))
	require.NoError(t, theirs.Lock(ctx))
	waited := make(chan error, 1)
	go func() { waited <- both.Lock(ctx) }()
	queues(t, c, name, 2)
	claims, err := both.Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 3)
	for i, held := range []bool{true, true, false} {
		require.Equal(t, held, claims[i].Held)
	}
	require.NoError(t, own.Unlock(ctx))
	queues(t, c, name, 1)
	require.Empty(t, waited)
	require.NoError(t, theirs.Unlock(ctx))
	require.NoError(t, next(t, waited))
	require.NoError(t, both.Unlock(ctx))
	require.Zero(t, queue(t, c, name))
	keysUnder(t, c.Raw(), name+"/", 0)
}

func TestOldAndNewLocksProtectACounter(t *testing.T) {
	t.Parallel()
	srv := server(t)
	clients := []*etcd.Client{client(t, config(srv)), client(t, config(srv))}
	ctx, name := within(t, patience), prefix(t)+"lock"
	counter, here := prefix(t)+"counter", 0
	require.NoError(t, clients[0].Put(ctx, counter, []byte("0")))
	const rounds = 20
	var workers sync.WaitGroup
	for i, c := range clients {
		l, both := newLock(t, c, name, etcd.WithConcurrencyKeys()), newLock(t, c, name, etcd.WithBothKeys())
		m, _ := mutex(t, c.Raw(), name)
		for _, l := range []*etcd.Lock{l, both} {
			workers.Go(func() {
				for range rounds {
					if err := incrementUnder(ctx, c, l, counter, &here); err != nil {
						t.Errorf("client %d: %v", i, err)
						return
					}
				}
			})
		}
		workers.Go(func() {
			for range rounds {
				if err := incrementUnderMutex(ctx, c, m, counter); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	workers.Wait()
	value, err := clients[0].Get(ctx, counter)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(2*3*rounds), string(value))
}

func incrementUnderMutex(ctx context.Context, c *etcd.Client, m *concurrency.Mutex, key string) error {
	if err := m.Lock(ctx); err != nil {
		return err
	}
	value, err := c.Get(ctx, key)
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(string(value))
	if err := c.Put(ctx, key, []byte(strconv.Itoa(n+1))); err != nil {
		return err
	}
	return m.Unlock(ctx)
}

func TestForeignKeysAreToldAndNotWaitedFor(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	for keys, option := range theirKeys {
		name := prefix(t) + keys
		l := newLock(t, c, name, option)
		for _, foreign := range []string{"/data", "/00ab", "/longer/name\x00"} {
			require.NoError(t, c.Put(ctx, name+foreign, nil))
			acquired, err := l.TryLock(ctx)
			require.ErrorIs(t, err, etcd.ErrForeignKey)
			require.False(t, acquired)
			require.False(t, etcd.MaybeApplied(err))
			require.ErrorIs(t, l.Lock(ctx), etcd.ErrForeignKey)
			keysUnder(t, c.Raw(), name+"/", 1)
			require.Zero(t, queue(t, c, name), "nothing is left behind")
			claims, err := l.Queue(ctx)
			require.NoError(t, err)
			require.Empty(t, claims)
			require.NoError(t, second(c.Delete(ctx, name+foreign)))
		}
		longer := newLock(t, c, name+"/longer", option)
		require.NoError(t, longer.Lock(ctx))
		require.ErrorIs(t, l.Lock(ctx), etcd.ErrForeignKey)
		require.NoError(t, longer.Unlock(ctx))

		// One that comes later is in nobody's way, and one before those that wait is.
		require.NoError(t, l.Lock(ctx))
		require.NoError(t, c.Put(ctx, name+"/data", nil))
		other := newLock(t, c, name, option)
		acquired, err := other.TryLock(ctx)
		require.NoError(t, err)
		require.False(t, acquired)
		require.ErrorIs(t, other.Lock(ctx), etcd.ErrForeignKey)
		require.NoError(t, l.Unlock(ctx))
	}
}

func TestConcurrencyKeyThatIsGoneLosesTheLock(t *testing.T) {
	t.Parallel()
	for keys, option := range theirKeys {
		for _, theirs := range []bool{true, false} {
			if !theirs && keys == "concurrency" {
				continue // which has no other key
			}
			t.Run(fmt.Sprint(keys, theirs), func(t *testing.T) {
				t.Parallel()
				c := client(t, config(server(t)))
				ctx, name := within(t, patience), prefix(t)+"lock"
				l := newLock(t, c, name, option, etcd.WithLockTTL(time.Minute))
				require.NoError(t, l.Lock(ctx))
				guarded := l.Guard(ctx)
				require.NoError(t, c.Put(guarded, name+"-data", []byte("before")))
				require.Same(t, l, etcd.LockOf(guarded))
				gone := name + "\x00"
				if theirs {
					gone = name + "/"
				}
				require.NoError(t, second(c.DeletePrefix(ctx, gone)))
				err := c.Put(guarded, name+"-data", []byte("after"))
				require.ErrorIs(t, err, etcd.ErrLockLost)
				require.False(t, etcd.MaybeApplied(err))
				closes(t, l.Context().Done())
				require.ErrorIs(t, context.Cause(l.Context()), etcd.ErrLockKeyDeleted)
				require.ErrorIs(t, l.Unlock(guarded), etcd.ErrLockLost)
				heir := newLock(t, c, name, option)
				require.NoError(t, heir.Lock(ctx), "the other key is gone too")
				require.NoError(t, heir.Unlock(ctx))
			})
		}
	}
}

func TestLostAnswerLeavesNoConcurrencyKey(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c, ctx := client(t, config(srv)), within(t, patience)
	for keys, option := range theirKeys {
		for way, acquire := range acquisitions {
			name := prefix(t) + keys + way
			l := newLock(t, c, name, option, etcd.WithLockTTL(time.Hour))
			lost := &script{answer: status.Error(codes.Unknown, "lost"), times: 1, writesOnly: true}
			require.True(t, etcd.MaybeApplied(second(acquire(f.follow(ctx, lost), l))))
			m, _ := mutex(t, c.Raw(), name)
			require.NoError(t, m.Lock(ctx), "long before the lease ends")
			require.Zero(t, queue(t, c, name))
			require.NoError(t, m.Unlock(ctx))

			again := &script{answer: status.Error(codes.Unavailable, "lost"), times: 1, writesOnly: true}
			acquired, err := acquire(f.follow(ctx, again), l)
			require.NoError(t, err)
			require.True(t, acquired, "by the request that was applied")
			require.ErrorIs(t, m.TryLock(ctx), concurrency.ErrLocked)
			require.NoError(t, c.Put(l.Guard(ctx), name+"-data", nil))
			require.NoError(t, l.Unlock(ctx))
			keysUnder(t, c.Raw(), name+"/", 0)
			require.Zero(t, queue(t, c, name))
		}
	}
}

func TestWaiterThatGivesUpLeavesNoConcurrencyKey(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	for keys, option := range theirKeys {
		name := prefix(t) + keys
		m, _ := mutex(t, c.Raw(), name)
		require.NoError(t, m.Lock(ctx))
		l := newLock(t, c, name, option)
		waiting, giveUp := context.WithCancel(ctx)
		waited := make(chan error, 1)
		go func() { waited <- l.Lock(waiting) }()
		keysUnder(t, c.Raw(), name+"/", 2)
		giveUp()
		require.ErrorIs(t, next(t, waited), etcd.ErrLocked)
		keysUnder(t, c.Raw(), name+"/", 1)
		require.Zero(t, queue(t, c, name))
		require.NoError(t, m.Unlock(ctx))
	}
}

func TestConcurrencyKeysCostNoRoundTrip(t *testing.T) {
	t.Parallel()
	seen := &requestLog{}
	c := client(t, config(server(t)).WithTimeout(busyTimeout).WithHooks(seen.hook()))
	ctx := within(t, patience)
	for keys, option := range theirKeys {
		name := prefix(t) + keys
		l, other := newLock(t, c, name, option), newLock(t, c, name, option)
		for op, step := range map[string]func() error{
			"lock":     func() error { return l.Lock(ctx) },
			"try lock": func() error { return second(other.TryLock(ctx)) },
			"put":      func() error { return c.Put(l.Guard(ctx), name+"-data", nil) },
			"count":    func() error { return second(l.IsLocked(ctx)) },
			"unlock":   func() error { return l.Unlock(ctx) },
		} {
			if op != "lock" && l.Token() == 0 {
				require.NoError(t, l.Lock(ctx))
			}
			require.Equal(t, []string{op}, seen.during(func() { require.NoError(t, step()) }))
			if l.Token() != 0 {
				require.NoError(t, l.Unlock(ctx))
			}
		}
		require.NoError(t, c.WithLock(ctx, name, func(ctx context.Context) error {
			return c.Put(ctx, name+"-data", nil)
		}, option))
		keysUnder(t, c.Raw(), name+"/", 0)
	}
}

func TestConcurrencyKeysOnASessionTakeTurns(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name, s := within(t, patience), prefix(t)+"lock", newSession(t, c)
	a := newLock(t, c, name, etcd.WithSession(s), etcd.WithConcurrencyKeys())
	b := newLock(t, c, name, etcd.WithConcurrencyKeys(), etcd.WithSession(s))
	own := newLock(t, c, name, etcd.WithSession(s))
	require.NoError(t, a.Lock(ctx))
	acquired, err := b.TryLock(ctx)
	require.NoError(t, err)
	require.False(t, acquired)
	require.NoError(t, own.Lock(ctx), "of another queue")
	require.NoError(t, a.Unlock(ctx))
	require.NoError(t, b.Lock(ctx))
	require.NoError(t, b.Unlock(ctx))
	require.NoError(t, own.Unlock(ctx))
}

func TestBadKeysOptionsAreRefusedUnsent(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	s := newSession(t, c)
	require.Empty(t, o.during(func() {
		for _, opts := range [][]etcd.LockOption{
			{etcd.WithConcurrencyKeys(), etcd.WithBothKeys()},
			{etcd.WithSession(s), etcd.WithBothKeys()},
		} {
			_, err := c.NewLock("lock", opts...)
			require.ErrorIs(t, err, etcd.ErrInvalidArgument)
		}
		_, err := c.NewLock("", etcd.WithConcurrencyKeys())
		require.ErrorIs(t, err, etcd.ErrEmptyKey)
		_, err = c.NewLock("a\x00b", etcd.WithBothKeys())
		require.ErrorIs(t, err, etcd.ErrInvalidArgument)
	}))
}
