package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// lostAnswer has a server carry a write out and then lose the answer.
func lostAnswer() *script {
	return &script{answer: status.Error(codes.Unavailable, "lost"), writesOnly: true, times: 1}
}

func TestLostAnswersChangeNothingForAJob(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	q, key := openQueue[string](t, c), prefix(t)+"effect"
	for name, settle := range map[string]func(ctx context.Context, j *jobqueue.Job[string]) error{
		"ack":  func(ctx context.Context, j *jobqueue.Job[string]) error { return j.Ack(ctx) },
		"with": func(ctx context.Context, j *jobqueue.Job[string]) error { return j.AckWith(ctx, etcd.OpPut(key, nil)) },
		"nack": func(ctx context.Context, j *jobqueue.Job[string]) error { return j.Nack(ctx, 0) },
		"bury": func(ctx context.Context, j *jobqueue.Job[string]) error { return j.Bury(ctx, "no") },
	} {
		push(t, q, name)
		// The first pop has the lease granted, without faults.
		warm := popped(t, q)
		require.NoError(t, warm.Nack(t.Context(), 0))
		s := lostAnswer()
		ctx, cancel := context.WithCancel(faults.follow(t.Context(), s))
		j, err := q.Pop(ctx)
		require.NoError(t, err, name)
		require.Equal(t, name, j.Value)
		require.EqualValues(t, 2, s.seen.Load(), "asked again")
		s = lostAnswer()
		require.NoError(t, settle(faults.follow(t.Context(), s), j), name)
		require.EqualValues(t, 2, s.seen.Load(), "asked again")
		require.ErrorIs(t, j.Ack(t.Context()), jobqueue.ErrSettled)
		cancel()
		if name == "nack" {
			require.NoError(t, popped(t, q).Ack(t.Context()))
		}
	}
	holds(t, q, jobqueue.Counts{Dead: 1})
	kv, err := c.GetKV(t.Context(), key)
	require.NoError(t, err)
	require.EqualValues(t, 1, kv.Version)
}

// An acknowledgement whose answer is lost, and whose claim is lost too, is known by the history.
func TestAckInDoubtIsSettledByHistory(t *testing.T) {
	t.Parallel()
	for _, applied := range []bool{true, false} {
		t.Run(fmt.Sprint(applied), func(t *testing.T) {
			t.Parallel()
			srv, faults := faultyServer(t)
			c, other := client(t, config(srv)), client(t, config(srv))
			q, second := openQueueOf[string](t, c, "q"), openQueueOf[string](t, other, "q")
			push(t, q, "a")
			j := popped(t, q)
			lease, _ := leaseOfJob(t, c, q, j)
			s := &script{answer: status.Error(codes.Unavailable, "lost"), writesOnly: true, refuse: !applied}
			ctx, cancel := context.WithCancel(faults.follow(t.Context(), s))
			s.arrived = func(context.Context) {
				if s.seen.Load() > 1 {
					cancel()
				}
			}
			err := j.AckWith(ctx, etcd.OpPut("effect", nil))
			require.Error(t, err)
			require.True(t, etcd.MaybeApplied(err))
			require.NoError(t, other.RevokeLease(t.Context(), lease))
			closes(t, j.Context().Done())
			if !applied {
				require.NoError(t, popped(t, second).Ack(t.Context()))
			}
			err = j.Ack(within(t, patience))
			there, missing := c.Exists(t.Context(), "effect")
			require.NoError(t, missing)
			require.Equal(t, applied, there)
			if applied {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, jobqueue.ErrClaimLost)
				require.False(t, etcd.MaybeApplied(err))
			}
		})
	}
}

// A claim whose caller left before the answer came is given back: nobody would work on it.
func TestClaimNobodyWaitedForIsGivenBack(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))
	q := openQueue[string](t, c)
	push(t, q, "warm", "a")
	require.NoError(t, popped(t, q).Ack(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	s := lostAnswer()
	s.arrived = func(context.Context) { cancel() }
	_, err := q.Pop(faults.follow(ctx, s))
	require.ErrorIs(t, err, context.Canceled)
	j := popped(t, q)
	require.Equal(t, "a", j.Value)
	require.Equal(t, 1, j.Attempt(), "nobody has tried it")
	require.NoError(t, j.Ack(t.Context()))
}

// A lease that was granted while its queue was closed would live as long as the client.
func TestCloseLeavesNoLeaseOfALateConsumer(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))
	q := openQueue[string](t, c)
	push(t, q, "a")
	closed := make(chan error, 1)
	s := &script{writesOnly: true}
	s.arrived = func(ctx context.Context) {
		if s.seen.Load() == 2 { // the consumer makes itself known
			go func() { closed <- q.Close() }()
			<-ctx.Done()
		}
	}
	_, err := q.Pop(faults.follow(t.Context(), s))
	require.ErrorIs(t, err, etcd.ErrClosed)
	require.NoError(t, <-closed)
	require.Eventually(t, func() bool { return leases(t, c) == 0 }, patience, 10*time.Millisecond)
}

func TestUndecodableJobIsKeptAndTold(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ring := ringOf(t, keyNumber(t, 1))
	c := client(t, config(srv).WithKeyring(ring))
	stranger := client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 2))))
	ctx := t.Context()
	words, numbers := openQueue[string](t, c), openQueue[int](t, c)
	foreign := openQueue[int](t, stranger)
	push(t, words, "not a number")
	push(t, foreign, 2)
	push(t, numbers, 3, 4)
	keys, err := c.List(ctx, numbers.Name()+"\x01job/")
	require.NoError(t, err)
	require.Len(t, keys, 4)
	_, err = c.Delete(ctx, keys[3])
	require.NoError(t, err)
	for _, want := range []error{etcd.ErrEncoding, etcd.ErrUnknownKey} {
		_, err := numbers.Pop(within(t, patience))
		require.ErrorIs(t, err, want)
		bad, ok := errors.AsType[*jobqueue.UndecodableError](err)
		require.True(t, ok)
		require.Len(t, bad.ID, 24)
		_, ok = errors.AsType[*etcd.DecodeError](err)
		require.True(t, ok)
		require.NotContains(t, err.Error(), "not a number")
	}
	j := popped(t, numbers)
	require.Equal(t, 3, j.Value, "the others are not affected")
	require.NoError(t, j.Ack(ctx))
	_, err = numbers.Pop(within(t, patience))
	require.ErrorIs(t, err, etcd.ErrKeyNotFound)
	holds(t, numbers, jobqueue.Counts{Dead: 3})
	dead := deadOf(t, numbers)
	require.ErrorIs(t, dead[0].Err, etcd.ErrEncoding)
	require.ErrorIs(t, dead[1].Err, etcd.ErrUnknownKey)
	require.ErrorIs(t, dead[2].Err, etcd.ErrKeyNotFound)
	require.Equal(t, "not a number", deadOf(t, words)[0].Value, "as it was")
	require.NoError(t, foreign.Requeue(ctx, dead[1].ID))
	j = popped(t, foreign)
	require.Equal(t, 2, j.Value)
	require.NoError(t, j.Ack(ctx))
}

func TestWorkTriesFailedJobsAgain(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, proxy := cutOff(t, srv)
	q := openQueue[string](t, c)
	ctx, cancel := context.WithCancelCause(t.Context())
	push(t, openQueue[int](t, client(t, config(srv))), 1) // can't be decoded
	push(t, q, "fails", "settles", "ends")
	enough := errors.New("enough")
	attempts := map[string]int{}
	err := q.Work(ctx, func(ctx context.Context, j *jobqueue.Job[string]) error {
		attempts[j.Value]++
		switch {
		case j.Value == "fails" && j.Attempt() == 1:
			return errors.New("not yet")
		case j.Value == "settles":
			return j.AckWith(ctx, etcd.OpPut(prefix(t)+"effect", nil))
		case j.Value == "ends" && j.Attempt() == 1:
			proxy.Cut()
			proxy.Heal()
			return errors.New("not yet")
		case attempts["fails"] == 2 && attempts["ends"] == 2:
			cancel(enough)
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), enough)
		}
		return nil // acknowledged although ctx has ended
	})
	require.ErrorIs(t, err, enough)
	require.Equal(t, map[string]int{"fails": 2, "settles": 1, "ends": 2}, attempts)
	holds(t, q, jobqueue.Counts{Dead: 1})
}

func TestJobsWaitOutAnOutage(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, proxy := cutOff(t, srv)
	direct := client(t, config(srv))
	q, producer := openQueue[string](t, c, jobqueue.WithVisibility(2*time.Second)), openQueue[string](t, direct)
	got := make(chan string, 1)
	ctx, cancel := context.WithCancel(within(t, patience))
	var wg sync.WaitGroup
	wg.Go(func() {
		err := q.Work(ctx, func(_ context.Context, j *jobqueue.Job[string]) error {
			got <- j.Value
			return nil
		})
		if ctx.Err() == nil {
			t.Errorf("work ended: %v", err)
			close(got)
		}
	})
	waitsInLine(t, direct, q.Name(), 1)
	proxy.Refuse()
	proxy.Cut()
	waitsInLine(t, direct, q.Name(), 0) // its leases end
	push(t, producer, "a")
	proxy.Heal()
	require.Equal(t, "a", <-got)
	holds(t, producer, jobqueue.Counts{})
	cancel()
	wg.Wait()
}

// effect is the key that a job of a test puts with its acknowledgement.
func effect(p string, job int) string { return fmt.Sprintf("%seffect/%06d", p, job) }

// The short form of the test with real processes: consumers lose their leases again and again.
func TestNoJobIsLostAndEffectsHappenOnce(t *testing.T) {
	t.Parallel()
	const jobs, workers, loss = 2000, 8, 50
	srv := server(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	p := prefix(t)
	producer := openQueue[int](t, c)
	ctx, cancel := context.WithCancel(within(t, patience))
	var wg sync.WaitGroup
	var mu sync.Mutex
	done, lost := 0, 0
	for range workers {
		own := client(t, config(srv).WithTimeout(busyTimeout))
		q := openQueue[int](t, own, jobqueue.WithVisibility(5*time.Second), jobqueue.WithMaxAttempts(0))
		wg.Go(func() {
			_ = q.Work(ctx, func(ctx context.Context, j *jobqueue.Job[int]) error {
				if j.Value%loss == 0 && j.Attempt() == 1 {
					id, key := leaseOfJob(t, c, q, j)
					if err := c.RevokeLease(context.WithoutCancel(ctx), id); err != nil {
						return err
					}
					for there := j.Value%(2*loss) == 0; there && ctx.Err() == nil; { // half of them are late
						there, _ = c.Exists(t.Context(), key)
					}
				}
				err := j.AckWith(context.WithoutCancel(ctx), etcd.OpPut(effect(p, j.Value), nil))
				mu.Lock()
				defer mu.Unlock()
				if done++; errors.Is(err, jobqueue.ErrClaimLost) {
					lost++
				}
				return err
			})
		})
	}
	pushing := make(chan int, 100)
	for range 16 {
		wg.Go(func() {
			for i := range pushing {
				if err := producer.Push(ctx, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range jobs {
		pushing <- i
	}
	close(pushing)
	require.Eventually(t, func() bool {
		counts, err := producer.Counts(ctx)
		left, countErr := c.Count(ctx, producer.Name()+"\x01job/")
		return err == nil && countErr == nil && counts == jobqueue.Counts{} && left == 0
	}, patience, 50*time.Millisecond)
	cancel()
	wg.Wait()
	n := 0
	for kv, err := range c.Scan(t.Context(), p+"effect/") {
		require.NoError(t, err)
		require.EqualValues(t, 1, kv.Version, kv.Key)
		n++
	}
	require.Equal(t, jobs, n, "none lost")
	t.Logf("%d jobs, %d times a consumer lost its lease: %d attempts, of which %d ended after the claim was lost", jobs, jobs/loss, done, lost)
	require.NotZero(t, lost)
}

// The herd: a job wakes one consumer, however many wait.
func TestAJobWakesOneOfFiftyConsumers(t *testing.T) {
	t.Parallel()
	const jobs = 30
	requests := map[int]int{} // about jobs: those about places in the line come with time, too
	for _, consumers := range []int{5, 50} {
		srv, o := observedServer(t)
		producer := openQueueOf[int](t, client(t, config(srv).WithTimeout(busyTimeout)), "q")
		ctx, cancel := context.WithCancel(within(t, patience))
		got := make(chan int)
		var wg sync.WaitGroup
		for range consumers {
			q := openQueueOf[int](t, client(t, config(srv).WithTimeout(busyTimeout)), "q", jobqueue.WithVisibility(time.Minute))
			wg.Go(func() {
				for {
					j, err := q.Pop(ctx)
					if err != nil {
						return
					}
					if j.Ack(ctx) == nil {
						got <- j.Value
					}
				}
			})
		}
		eye := client(t, config(srv).WithTimeout(busyTimeout))
		waitsInLine(t, eye, "q", int64(consumers))
		var counts []int
		var count atomic.Int64
		o.around(func(req any) {
			if asks(req, "q\x01wait/") || asks(req, "q\x01running/") {
				count.Add(1)
			}
		}, nil)
		for i := range jobs {
			count.Store(0)
			push(t, producer, i)
			require.Equal(t, i, <-got)
			waitsInLine(t, eye, "q", int64(consumers))
			counts = append(counts, int(count.Load()))
		}
		slices.Sort(counts)
		requests[consumers] = counts[jobs/2]
		cancel()
		wg.Wait()
	}
	t.Logf("transactions about a job, pushed, taken and acknowledged, at the median: %d with 5 consumers that wait, %d with 50", requests[5], requests[50])
	require.NotZero(t, requests[50])
	require.Less(t, requests[50], 20)
}

// Claims of one queue to one attempt have the same key: what becomes of a call whose context ends
// while its claim is under way must not touch the claim of another call.
func TestEndedCallGivesBackNoOtherClaim(t *testing.T) {
	t.Parallel()
	srv := server(t)
	q, other := openQueue[int](t, client(t, config(srv))), openQueue[int](t, client(t, config(srv)))
	ctx := within(t, patience)
	for n := range 200 {
		push(t, q, n)
		brief, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if j, err := q.TryPop(brief); err == nil {
				<-j.Context().Done()
			}
		}()
		late := time.AfterFunc(time.Duration(n%40)*100*time.Microsecond, cancel)
		j := popped(t, q)
		cancel()
		<-ended
		late.Stop()
		require.ErrorIs(t, second(other.TryPop(ctx)), jobqueue.ErrEmpty)
		require.NoError(t, j.Ack(ctx))
	}
}
