package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

func TestJobsComeByPriorityThenAge(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		q, ctx := openQueue[string](t, c), t.Context()
		push(t, q, "a", "b")
		require.NoError(t, q.Push(ctx, "urgent", jobqueue.WithPriority(jobqueue.MaxPriority)))
		require.NoError(t, q.Push(ctx, "important", jobqueue.WithPriority(1)))
		push(t, q, "c")
		for _, want := range []string{"urgent", "important", "a", "b", "c"} {
			j := popped(t, q)
			require.Equal(t, want, j.Value)
			require.Equal(t, 1, j.Attempt())
			require.NoError(t, j.Context().Err())
			require.WithinDuration(t, time.Now(), j.Pushed(), patience)
			require.NoError(t, j.Ack(ctx))
			require.ErrorIs(t, j.Context().Err(), context.Canceled)
			if want == "a" { // an urgent one comes before all that wait
				require.NoError(t, q.Push(ctx, "late", jobqueue.WithPriority(2)))
				late := popped(t, q)
				require.Equal(t, "late", late.Value)
				require.Equal(t, 2, late.Priority())
				require.NoError(t, late.Ack(ctx))
			}
		}
		holds(t, q, jobqueue.Counts{})
		_, err := q.TryPop(ctx)
		require.ErrorIs(t, err, jobqueue.ErrEmpty)
	})
}

func TestJobOfALostConsumerComesToAnother(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	q, second := openQueue[string](t, c), openQueue[string](t, other)
	push(t, q, "a", "b")
	first, kept := popped(t, q), popped(t, q)
	require.NoError(t, kept.Ack(t.Context()))
	next := make(chan *jobqueue.Job[string], 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		if j, err := second.Pop(within(t, patience)); err == nil {
			next <- j
		}
		close(next)
	})
	waitsInLine(t, other, q.Name(), 1)
	loseConsumer(t, other, q, first)
	j := <-next
	wg.Wait()
	require.NotNil(t, j)
	require.Equal(t, first.ID(), j.ID())
	require.Equal(t, 2, j.Attempt())
	require.ErrorIs(t, context.Cause(first.Context()), jobqueue.ErrClaimLost)
	require.ErrorIs(t, context.Cause(first.Context()), etcd.ErrLeaseLost)
	key := prefix(t) + "effect"
	for name, settle := range map[string]func() error{
		"Ack":     func() error { return first.Ack(t.Context()) },
		"AckWith": func() error { return first.AckWith(t.Context(), etcd.OpPut(key, nil)) },
		"Nack":    func() error { return first.Nack(t.Context(), 0) },
		"Bury":    func() error { return first.Bury(t.Context(), "no") },
		"Held":    func() error { return c.Put(t.Context(), key, nil, etcd.WithCondition(first.Held())) },
	} {
		err := settle()
		require.False(t, etcd.MaybeApplied(err), name)
		if name == "Held" {
			require.ErrorIs(t, err, etcd.ErrConditionFailed)
		} else {
			require.ErrorIs(t, err, jobqueue.ErrClaimLost, name)
		}
	}
	require.NoError(t, j.AckWith(t.Context(), etcd.OpPut(key, []byte("once")), etcd.OpGet(key)))
	kv, err := c.GetKV(t.Context(), key)
	require.NoError(t, err)
	require.EqualValues(t, 1, kv.Version)
	push(t, q, "c") // the consumer that lost its lease has another one
	require.NoError(t, popped(t, q).Ack(t.Context()))
	holds(t, q, jobqueue.Counts{})
}

func TestSettlingIsBoundToTheClaim(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	q, successor := openQueue[string](t, c), openQueue[string](t, client(t, config(srv)))
	push(t, q, "a")
	first := popped(t, q)
	id, _ := leaseOfJob(t, c, q, first)
	// Somebody deletes the key that says that the consumer lives: its lease lives on.
	n, err := c.Delete(t.Context(), q.Name()+"\x01wait/alive/"+id.String())
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	j := popped(t, successor)
	require.Equal(t, 2, j.Attempt())
	require.NoError(t, first.Context().Err(), "it can't know")
	key := prefix(t) + "effect"
	require.ErrorIs(t, first.AckWith(t.Context(), etcd.OpPut(key, nil)), jobqueue.ErrClaimLost)
	require.ErrorIs(t, context.Cause(first.Context()), jobqueue.ErrClaimLost)
	there, err := c.Exists(t.Context(), key)
	require.NoError(t, err)
	require.False(t, there)
	push(t, q, "b")
	next := popped(t, q) // by a new lease
	require.Equal(t, "b", next.Value)
	require.NoError(t, next.Ack(t.Context()))
	require.NoError(t, j.Ack(t.Context()))
	holds(t, q, jobqueue.Counts{})
}

// A consumer that is too slow to notice that it is lost is kept from settling by the server.
func TestPausedConsumerCannotSettleALostJob(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, proxy := cutOff(t, srv)
	direct := client(t, config(srv))
	q, second := openQueue[string](t, c, jobqueue.WithVisibility(2*time.Second)), openQueue[string](t, direct)
	push(t, q, "a")
	first := popped(t, q)
	proxy.Pause()
	j := popped(t, second)
	require.Equal(t, 2, j.Attempt())
	require.Error(t, first.Context().Err(), "lost before another can have it")
	proxy.Heal()
	require.ErrorIs(t, first.AckWith(within(t, patience), etcd.OpPut(prefix(t)+"effect", nil)), jobqueue.ErrClaimLost)
	there, err := direct.Exists(t.Context(), prefix(t)+"effect")
	require.NoError(t, err)
	require.False(t, there)
	require.NoError(t, j.Ack(t.Context()))
}

func TestNackedJobComesAgainAfterItsDelay(t *testing.T) {
	t.Parallel()
	q := openQueue[string](t, client(t, config(server(t))))
	push(t, q, "a", "b")
	j := popped(t, q)
	began := time.Now()
	const delay = 300 * time.Millisecond
	require.NoError(t, j.Nack(t.Context(), delay))
	require.ErrorIs(t, j.Ack(t.Context()), jobqueue.ErrSettled)
	other := popped(t, q)
	require.Equal(t, "b", other.Value)
	again := popped(t, q) // waits
	require.GreaterOrEqual(t, time.Since(began), delay)
	require.Equal(t, "a", again.Value)
	require.Equal(t, j.ID(), again.ID())
	require.Equal(t, 2, again.Attempt())
	require.NoError(t, again.Nack(t.Context(), 0))
	again = popped(t, q)
	require.Equal(t, "a", again.Value)
	require.Equal(t, 3, again.Attempt())
	require.ErrorIs(t, again.Nack(t.Context(), -1), etcd.ErrInvalidArgument)
	require.NoError(t, again.Ack(t.Context()), "a refused Nack leaves the job")
	require.NoError(t, other.Ack(t.Context()))
}

func TestDelayedJobsWakeAWaitingConsumer(t *testing.T) {
	t.Parallel()
	q := openQueue[string](t, client(t, config(server(t))))
	got := make(chan *jobqueue.Job[string], 2)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 2 {
			if j, err := q.Pop(within(t, patience)); err == nil {
				got <- j
			}
		}
		close(got)
	})
	began := time.Now()
	require.NoError(t, q.Push(t.Context(), "later", jobqueue.WithDelay(600*time.Millisecond)))
	require.NoError(t, q.Push(t.Context(), "soon", jobqueue.WithDelay(300*time.Millisecond)))
	for _, want := range []string{"soon", "later"} {
		j := <-got
		require.NotNil(t, j)
		require.Equal(t, want, j.Value)
		require.NoError(t, j.Ack(t.Context()))
	}
	require.GreaterOrEqual(t, time.Since(began), 600*time.Millisecond)
	wg.Wait()
}

func TestUsedUpJobIsKeptAmongTheDead(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, q := t.Context(), openQueue[string](t, c, jobqueue.WithMaxAttempts(2))
		require.NoError(t, q.Push(ctx, "a", jobqueue.WithPriority(3)))
		push(t, q, "b")
		for range 2 {
			require.NoError(t, popped(t, q).Nack(ctx, 0))
		}
		require.NoError(t, popped(t, q).Bury(ctx, "hopeless"))
		holds(t, q, jobqueue.Counts{Dead: 2})
		dead := deadOf(t, q)
		require.Equal(t, []string{"a", "b"}, []string{dead[0].Value, dead[1].Value})
		require.Equal(t, []int{2, 1}, []int{dead[0].Attempts, dead[1].Attempts})
		require.Equal(t, []string{"attempts used up", "hopeless"}, []string{dead[0].Reason, dead[1].Reason})
		require.Equal(t, 3, dead[0].Priority)
		require.WithinDuration(t, time.Now(), dead[0].Since, patience)
		require.NoError(t, q.Requeue(ctx, dead[0].ID))
		require.NoError(t, q.Discard(ctx, dead[1].ID))
		for _, id := range []string{dead[0].ID, dead[1].ID, "", "x"} {
			require.ErrorIs(t, q.Requeue(ctx, id), jobqueue.ErrNotDead)
			require.ErrorIs(t, q.Discard(ctx, id), jobqueue.ErrNotDead)
		}
		j := popped(t, q)
		require.Equal(t, "a", j.Value)
		require.Equal(t, 1, j.Attempt())
		require.NoError(t, j.Ack(ctx))
		left, err := c.Count(ctx, q.Name()+"\x01job/")
		require.NoError(t, err)
		require.Zero(t, left)
	})
}

func TestLostLastAttemptIsKeptAmongTheDead(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	q := openQueue[string](t, c, jobqueue.WithMaxAttempts(1))
	push(t, q, "a")
	loseConsumer(t, other, q, popped(t, q))
	second := openQueue[string](t, other, jobqueue.WithMaxAttempts(1))
	_, err := second.TryPop(t.Context())
	require.ErrorIs(t, err, jobqueue.ErrEmpty)
	holds(t, second, jobqueue.Counts{Dead: 1})
}

func TestFullQueueRefusesEveryFurtherPush(t *testing.T) {
	t.Parallel()
	const capacity, pushers, each = 50, 4, 20
	srv := server(t)
	var queues []*jobqueue.Queue[int]
	for range pushers {
		queues = append(queues, openQueue[int](t, client(t, config(srv).WithTimeout(busyTimeout)), jobqueue.WithCapacity(capacity)))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	pushed := 0
	for _, q := range queues {
		for i := range each {
			wg.Go(func() {
				err := q.Push(t.Context(), i)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					pushed++
				} else {
					require.ErrorIs(t, err, jobqueue.ErrFull)
				}
			})
		}
	}
	wg.Wait()
	require.Equal(t, capacity, pushed)
	holds(t, queues[0], jobqueue.Counts{Ready: capacity})
	require.NoError(t, popped(t, queues[0]).Ack(t.Context()))
	push(t, queues[1], 0)
	require.ErrorIs(t, queues[2].Push(t.Context(), 0), jobqueue.ErrFull)
}

func TestJobGoesBackWithThePopsContext(t *testing.T) {
	t.Parallel()
	q := openQueue[string](t, client(t, config(server(t))))
	push(t, q, "a")
	ctx, cancel := context.WithCancel(t.Context())
	j, err := q.Pop(ctx)
	require.NoError(t, err)
	cancel()
	closes(t, j.Context().Done())
	require.ErrorIs(t, context.Cause(j.Context()), jobqueue.ErrClaimLost)
	require.ErrorIs(t, context.Cause(j.Context()), context.Canceled)
	again := popped(t, q)
	require.Equal(t, j.ID(), again.ID())
	require.ErrorIs(t, j.Ack(t.Context()), jobqueue.ErrClaimLost)
	require.NoError(t, again.Ack(t.Context()))
	_, err = q.Pop(canceled())
	require.ErrorIs(t, err, context.Canceled)
}

func TestClosedQueueGivesItsJobsBack(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	q, successor := openQueue[string](t, c), openQueue[string](t, other)
	push(t, q, "a")
	j := popped(t, q)
	waiting := make(chan error, 1)
	go func() { waiting <- second(q.Pop(context.Background())) }()
	waitsInLine(t, c, q.Name(), 1)
	require.NoError(t, q.Close())
	require.ErrorIs(t, <-waiting, etcd.ErrClosed)
	require.ErrorIs(t, context.Cause(j.Context()), jobqueue.ErrClaimLost)
	require.ErrorIs(t, context.Cause(j.Context()), etcd.ErrClosed)
	require.ErrorIs(t, j.Ack(t.Context()), jobqueue.ErrClaimLost)
	holds(t, successor, jobqueue.Counts{Ready: 1})
	require.ErrorIs(t, q.Push(t.Context(), "b"), etcd.ErrClosed)
	require.ErrorIs(t, second(q.PushOps("b")), etcd.ErrClosed)
	require.ErrorIs(t, second(q.TryPop(t.Context())), etcd.ErrClosed)
	require.NoError(t, q.Close())
	require.NoError(t, popped(t, successor).Ack(t.Context()))
	keys, err := other.List(t.Context(), q.Name()+"\x01")
	require.NoError(t, err)
	require.Len(t, keys, 2, "the other consumer alone: %q", keys)
}

func TestQueuesOfOverlappingNamesAreApart(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, p := t.Context(), prefix(t)
	names := []string{p + "q", p + "q/job", p + "q/", p + "q2"}
	for _, name := range names {
		push(t, openQueueOf[string](t, c, name), name)
	}
	l := newLock(t, c, names[0])
	locked, err := l.TryLock(ctx)
	require.NoError(t, err)
	require.True(t, locked, "a lock of the same name")
	for _, name := range names {
		q := openQueueOf[string](t, c, name)
		j := popped(t, q)
		require.Equal(t, name, j.Value)
		require.NoError(t, j.Ack(ctx))
		holds(t, q, jobqueue.Counts{})
	}
}

func TestQueueRefusesBadInputUnsent(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	var none context.Context
	q := openQueue[int](t, c)
	broken := openQueue[func()](t, c)
	ctx := t.Context()
	open := func(name string, opts ...jobqueue.Option) func() error {
		return func() error { return second(jobqueue.Open[int](ctx, c, name, opts...)) }
	}
	for name, tc := range map[string]struct {
		want error
		call func() error
	}{
		"no name":            {etcd.ErrEmptyKey, open("")},
		"NUL":                {etcd.ErrInvalidArgument, open("a\x00b")},
		"separator":          {etcd.ErrInvalidArgument, open("a\x01b")},
		"long name":          {etcd.ErrTooLarge, open(strings.Repeat("n", 4<<10+1))},
		"nil option":         {etcd.ErrInvalidArgument, open("q", nil)},
		"visibility":         {etcd.ErrInvalidArgument, open("q", jobqueue.WithVisibility(0))},
		"attempts":           {etcd.ErrInvalidArgument, open("q", jobqueue.WithMaxAttempts(-1))},
		"capacity":           {etcd.ErrInvalidArgument, open("q", jobqueue.WithCapacity(-1))},
		"encoding":           {etcd.ErrInvalidArgument, open("q", jobqueue.WithEncoding(etcd.JSON[string]{}))},
		"nil encoding":       {etcd.ErrInvalidArgument, open("q", jobqueue.WithEncoding[int](nil))},
		"nil context":        {etcd.ErrNilContext, func() error { return second(jobqueue.Open[int](none, c, "q")) }},
		"nil client":         {etcd.ErrInvalidArgument, func() error { return second(jobqueue.Open[int](ctx, nil, "q")) }},
		"push priority":      {etcd.ErrInvalidArgument, func() error { return q.Push(ctx, 1, jobqueue.WithPriority(10)) }},
		"push low":           {etcd.ErrInvalidArgument, func() error { return q.Push(ctx, 1, jobqueue.WithPriority(-1)) }},
		"push delay":         {etcd.ErrInvalidArgument, func() error { return q.Push(ctx, 1, jobqueue.WithDelay(-1)) }},
		"push huge delay":    {etcd.ErrInvalidArgument, func() error { return q.Push(ctx, 1, jobqueue.WithDelay(1<<63-1)) }},
		"push nil option":    {etcd.ErrInvalidArgument, func() error { return q.Push(ctx, 1, nil) }},
		"ops nil option":     {etcd.ErrInvalidArgument, func() error { return second(q.PushOps(1, nil)) }},
		"push unmarshalable": {etcd.ErrEncoding, func() error { return broken.Push(ctx, func() {}) }},
		"push nil context":   {etcd.ErrNilContext, func() error { return q.Push(none, 1) }},
		"pop nil context":    {etcd.ErrNilContext, func() error { return second(q.Pop(none)) }},
		"try nil context":    {etcd.ErrNilContext, func() error { return second(q.TryPop(none)) }},
		"counts nil context": {etcd.ErrNilContext, func() error { return second(q.Counts(none)) }},
		"requeue nil":        {etcd.ErrNilContext, func() error { return q.Requeue(none, "") }},
		"discard nil":        {etcd.ErrNilContext, func() error { return q.Discard(none, "") }},
		"work nil context": {etcd.ErrNilContext, func() error {
			return q.Work(none, func(context.Context, *jobqueue.Job[int]) error { return nil })
		}},
		"work nil function": {etcd.ErrInvalidArgument, func() error { return q.Work(ctx, nil) }},
		"dead nil context": {etcd.ErrNilContext, func() (last error) {
			for _, err := range q.Dead(none) {
				last = err
			}
			return last
		}},
	} {
		requireRefused(t, o, name, tc.want, tc.call)
	}
	require.ErrorIs(t, q.Push(canceled(), 1), context.Canceled)
	small := client(t, config(srv).WithMaxRequestBytes(10_000))
	requireRefused(t, o, "too large", etcd.ErrTooLarge, func() error { return openQueue[[]byte](t, small).Push(ctx, make([]byte, 10_000)) })
	push(t, q, 1)
	j := popped(t, q)
	requireRefused(t, o, "ack nil context", etcd.ErrNilContext, func() error { return j.Ack(none) })
	requireRefused(t, o, "nack nil context", etcd.ErrNilContext, func() error { return j.Nack(none, 0) })
	requireRefused(t, o, "bury nil context", etcd.ErrNilContext, func() error { return j.Bury(none, "") })
	requireRefused(t, o, "nack delay", etcd.ErrInvalidArgument, func() error { return j.Nack(ctx, -time.Second) })
	requireRefused(t, o, "ack with what can't be", etcd.ErrInvalidArgument, func() error { return j.AckWith(ctx, etcd.Op{}) })
	require.NoError(t, j.Ack(ctx), "refused calls leave the job")
	requireRefused(t, o, "second ack", jobqueue.ErrSettled, func() error { return j.Ack(ctx) })
	push(t, openQueue[string](t, c), "0", fmt.Sprint(1))
}
