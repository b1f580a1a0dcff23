package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd"
)

// exclusionVariable makes the test binary one of the processes that fight over something;
// its value is an exclusionTask.
const exclusionVariable = "ETCD_INTEGRATION_EXCLUSION"

// exclusionTask says what such a process does.
type exclusionTask struct {
	Kind      string   `json:"kind"` // see exclusionKinds
	Endpoints []string `json:"endpoints"`
	Prefix    string   `json:"prefix"`
	Worker    int      `json:"worker"`
	Seed      uint64   `json:"seed"`
}

const (
	// exclusionTTL is that of each claim.
	exclusionTTL = 2 * time.Second
	// exclusionSteps is how often a holder writes, at most.
	exclusionSteps = 40
	// exclusionPatience is how long a worker waits for the holding, and for its own writes.
	exclusionPatience = 10 * time.Second
)

func (task exclusionTask) name() string    { return task.Prefix + "name" }
func (task exclusionTask) written() string { return task.Prefix + "written" }

// possession is what a worker has taken.
type possession struct {
	mode    string
	token   int64
	life    context.Context // ends when it is lost
	write   func(ctx context.Context, key, value string) error
	release func(ctx context.Context) error
}

// exclusionKind takes one kind of claim again and again; close ends it.
type exclusionKind struct {
	take  func(ctx context.Context) (*possession, error)
	close func()
}

// exclusionKinds are what processes can fight over, by name.
var exclusionKinds = map[string]func(task exclusionTask, random *rand.Rand) (exclusionKind, error){
	"lock":                 ofLibrary(lockKind),
	"election":             ofLibrary(electionKind()),
	"election, both keys":  ofLibrary(electionKind(etcd.WithBothKeys())),
	"read-write lock":      ofLibrary(rwLockKind),
	"semaphore":            ofLibrary(semaphoreKind),
	"concurrency.Mutex":    ofClientv3(takeMutex),
	"concurrency.Election": ofClientv3(takeElection),
}

// fightIfAsked fights over what the variable names until standard input ends, if this process
// was begun for that, and reports whether it was.
func fightIfAsked() bool {
	asked := os.Getenv(exclusionVariable)
	if asked == "" {
		return false
	}
	var task exclusionTask
	if err := json.Unmarshal([]byte(asked), &task); err != nil {
		panic(err)
	}
	random := rand.New(rand.NewPCG(task.Seed, uint64(task.Worker)))
	kind, err := exclusionKinds[task.Kind](task, random)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := json.NewEncoder(os.Stdout)
	for ctx.Err() == nil {
		waiting, stop := context.WithTimeout(ctx, exclusionPatience)
		h, err := kind.take(waiting)
		stop()
		if err != nil {
			continue
		}
		fmt.Println("took") // to those who stop holders
		t := h.hold(task, 1+random.IntN(exclusionSteps))
		if err := out.Encode(t); err != nil {
			panic(err)
		}
	}
	kind.close()
	return true
}

// hold writes some times, as long as it believes that it holds, and releases.
func (h *possession) hold(task exclusionTask, steps int) tenure {
	t := tenure{Worker: task.Worker, Mode: h.mode, Token: h.token}
	ctx, cancel := context.WithTimeout(context.Background(), exclusionPatience)
	defer cancel()
	value := strconv.FormatInt(h.token, 10)
	for range steps {
		at := time.Now().UnixNano()
		if h.life.Err() != nil {
			t.Lost = true
			break
		}
		if t.Last = at; t.First == 0 {
			t.First = at
		}
		switch err := h.write(ctx, task.written(), value); {
		case err == nil:
			t.Written++
		case etcd.MaybeApplied(err):
			t.Unsure++
		case errors.Is(err, etcd.ErrLockLost):
			t.Refused++
		}
	}
	_ = h.release(ctx) // if it fails, the claim ends with its lease
	return t
}

// ofLibrary makes a kind of a client of this library.
func ofLibrary(kind func(c *etcd.Client, task exclusionTask, random *rand.Rand) (exclusionKind, error)) func(exclusionTask, *rand.Rand) (exclusionKind, error) {
	return func(task exclusionTask, random *rand.Rand) (exclusionKind, error) {
		cfg := etcd.DefaultConfig().WithEndpoints(task.Endpoints...).WithEncryption(testKey).
			WithTimeout(2 * time.Second).WithLogger(slog.New(slog.DiscardHandler))
		c, err := etcd.NewClient(cfg)
		if err != nil {
			return exclusionKind{}, err
		}
		k, err := kind(c, task, random)
		end := k.close
		k.close = func() {
			end()
			_ = c.Close()
		}
		return k, err
	}
}

// guarded has the writes of h guarded, but not ended by the loss: what its holder believes must
// not matter to the server.
func (h possession) guarded(c *etcd.Client, guard func(context.Context) context.Context) *possession {
	h.write = func(ctx context.Context, key, value string) error {
		return c.Put(context.WithoutCancel(guard(ctx)), key, []byte(value))
	}
	return &h
}

// forget gives back what was lost, so that it can be taken again, and returns err.
func forget(ctx context.Context, err error, release func(context.Context) error) error {
	if errors.Is(err, etcd.ErrLockLost) {
		_ = release(ctx) // says again that it was lost
	}
	return err
}

func lockKind(c *etcd.Client, task exclusionTask, _ *rand.Rand) (exclusionKind, error) {
	l, err := c.NewLock(task.name(), etcd.WithLockTTL(exclusionTTL))
	if err != nil {
		return exclusionKind{}, err
	}
	return exclusionKind{
		take: func(ctx context.Context) (*possession, error) {
			if err := l.Lock(ctx); err != nil {
				return nil, forget(ctx, err, l.Unlock)
			}
			return possession{token: l.Token(), life: l.Context(), release: l.Unlock}.guarded(c, l.Guard), nil
		},
		close: func() { _ = l.Close() },
	}, nil
}

func electionKind(opts ...etcd.ElectionOption) func(*etcd.Client, exclusionTask, *rand.Rand) (exclusionKind, error) {
	return func(c *etcd.Client, task exclusionTask, _ *rand.Rand) (exclusionKind, error) {
		e, err := c.NewElection(task.name(), append(opts, etcd.WithLockTTL(exclusionTTL))...)
		if err != nil {
			return exclusionKind{}, err
		}
		resign := func(ctx context.Context) error { return e.Resign(ctx) }
		return exclusionKind{
			take: func(ctx context.Context) (*possession, error) {
				if err := e.Campaign(ctx, []byte("a value")); err != nil {
					_ = resign(ctx) // what was lost, or a resignation that has failed
					return nil, err
				}
				return possession{token: e.Token(), life: e.Context(), release: resign}.guarded(c, e.Guard), nil
			},
			close: func() { _ = e.Close() },
		}, nil
	}
}

func rwLockKind(c *etcd.Client, task exclusionTask, random *rand.Rand) (exclusionKind, error) {
	l, err := c.NewRWLock(task.name(), etcd.WithLockTTL(exclusionTTL))
	if err != nil {
		return exclusionKind{}, err
	}
	return exclusionKind{
		take: func(ctx context.Context) (*possession, error) {
			mode, lock, unlock := "r", l.RLock, l.RUnlock
			if random.IntN(3) == 0 {
				mode, lock, unlock = "w", l.Lock, l.Unlock
			}
			if err := lock(ctx); err != nil {
				return nil, forget(ctx, err, unlock)
			}
			return possession{mode: mode, token: l.Token(), life: l.Context(), release: unlock}.guarded(c, l.Guard), nil
		},
		close: func() { _ = l.Close() },
	}, nil
}

// exclusionSeats is the size of the semaphore that processes fight over.
const exclusionSeats = 3

func semaphoreKind(c *etcd.Client, task exclusionTask, _ *rand.Rand) (exclusionKind, error) {
	s, err := c.NewSemaphore(task.name(), exclusionSeats, etcd.WithLockTTL(exclusionTTL))
	if err != nil {
		return exclusionKind{}, err
	}
	return exclusionKind{
		take: func(ctx context.Context) (*possession, error) {
			if err := s.Acquire(ctx); err != nil {
				return nil, forget(ctx, err, s.Release)
			}
			return possession{token: s.Token(), life: s.Context(), release: s.Release}.guarded(c, s.Guard), nil
		},
		close: func() { _ = s.Close() },
	}, nil
}

// ofClientv3 makes a kind of clientv3's package concurrency, used as its documentation shows: a
// session that is made again once it is done, and plain writes.
func ofClientv3(take func(ctx context.Context, c *clientv3.Client, s *concurrency.Session, name string) (*possession, error)) func(exclusionTask, *rand.Rand) (exclusionKind, error) {
	return func(task exclusionTask, _ *rand.Rand) (exclusionKind, error) {
		c, err := clientv3.New(clientv3.Config{Endpoints: task.Endpoints, Logger: zap.NewNop(), DialTimeout: 2 * time.Second})
		if err != nil {
			return exclusionKind{}, err
		}
		var s *concurrency.Session
		session := func() (*concurrency.Session, error) {
			if s != nil {
				select {
				case <-s.Done():
				default:
					return s, nil
				}
			}
			var err error
			s, err = concurrency.NewSession(c, concurrency.WithTTL(int(exclusionTTL/time.Second)))
			return s, err
		}
		return exclusionKind{
			take: func(ctx context.Context) (*possession, error) {
				s, err := session()
				if err != nil {
					return nil, err
				}
				p, err := take(ctx, c, s, task.name())
				if err != nil {
					return nil, err
				}
				life, end := context.WithCancel(context.Background())
				go func() { // ends with the session, or with the process
					<-s.Done()
					end()
				}()
				p.life = life
				p.write = func(ctx context.Context, key, value string) error {
					_, err := c.Put(ctx, key, value)
					return err
				}
				return p, nil
			},
			close: func() {
				if s != nil {
					_ = s.Close()
				}
				_ = c.Close()
			},
		}, nil
	}
}

func takeMutex(ctx context.Context, c *clientv3.Client, s *concurrency.Session, name string) (*possession, error) {
	m := concurrency.NewMutex(s, name)
	if err := m.Lock(ctx); err != nil {
		return nil, err
	}
	key, err := c.Get(ctx, m.Key())
	if err != nil || len(key.Kvs) == 0 {
		_ = m.Unlock(ctx)
		return nil, errors.Join(err, concurrency.ErrSessionExpired)
	}
	return &possession{token: key.Kvs[0].CreateRevision, release: m.Unlock}, nil
}

func takeElection(ctx context.Context, _ *clientv3.Client, s *concurrency.Session, name string) (*possession, error) {
	e := concurrency.NewElection(s, name)
	if err := e.Campaign(ctx, "a value"); err != nil {
		return nil, err
	}
	return &possession{token: e.Rev(), release: e.Resign}, nil
}
