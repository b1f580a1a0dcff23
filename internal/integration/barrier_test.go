package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/barrier"
)

func newBarrier(t testing.TB, c *etcd.Client, opts ...barrier.Option) *barrier.Barrier {
	t.Helper()
	b, err := barrier.New(c, prefix(t)+"barrier", opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func newDouble(t testing.TB, c *etcd.Client, n int, opts ...barrier.Option) *barrier.Double {
	t.Helper()
	d, err := barrier.NewDouble(c, prefix(t)+"barrier", n, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// waiters starts waits at a barrier, and returns their errors when they have begun to watch.
func waiters(t testing.TB, srv string, n int) <-chan error {
	t.Helper()
	errs, watching := make(chan error, n), make(chan struct{}, n)
	for range n {
		c := client(t, etcd.DefaultConfig().WithEndpoints(srv).WithHooks(&watchBegun{began: watching}))
		b := newBarrier(t, c)
		go func() { errs <- b.Wait(within(t, patience)) }()
	}
	for range n {
		<-watching
	}
	return errs
}

// watchBegun tells when a watch is registered.
type watchBegun struct {
	hook
	began chan struct{}
}

func (w *watchBegun) WatchOpened(context.Context, etcd.WatchInfo)             { w.began <- struct{}{} }
func (*watchBegun) WatchInterrupted(context.Context, etcd.WatchInfo, error)   {}
func (*watchBegun) WatchResumed(context.Context, etcd.WatchInfo)              {}
func (*watchBegun) WatchResynced(context.Context, etcd.WatchInfo, error)      {}
func (*watchBegun) WatchEnded(_ context.Context, _ etcd.WatchInfo, err error) {}

func TestBarrierHoldsAllBackUntilReleased(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	holder, other := newBarrier(t, c), newBarrier(t, client(t, config(srv)))
	ctx := t.Context()
	require.NoError(t, other.Wait(ctx), "nobody holds it")
	for range 2 {
		require.ErrorIs(t, holder.Release(ctx), barrier.ErrNotHeld)
		require.NoError(t, holder.Hold(ctx))
		require.NoError(t, holder.Context().Err())
		require.ErrorIs(t, holder.Hold(ctx), barrier.ErrHeld)
		require.ErrorIs(t, other.Hold(ctx), barrier.ErrHeld)
		errs := waiters(t, srv.Endpoint(), 5)
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, other.Wait(short), context.DeadlineExceeded)
		require.Empty(t, errs)
		held := holder.Context()
		require.NoError(t, holder.Release(ctx))
		for range 5 {
			require.NoError(t, <-errs)
		}
		require.ErrorIs(t, context.Cause(held), context.Canceled)
		require.ErrorIs(t, context.Cause(holder.Context()), barrier.ErrNotHeld)
	}
	n, err := c.Count(ctx, prefix(t))
	require.NoError(t, err)
	require.Zero(t, n)
	leases, err := c.Raw().Leases(ctx)
	require.NoError(t, err)
	require.Empty(t, leases.Leases)
}

func TestLostHolderOfABarrierIsTold(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	s := newSession(t, c)
	holder, next := newBarrier(t, c, barrier.WithSession(s)), newBarrier(t, client(t, config(srv)))
	ctx := t.Context()
	require.NoError(t, holder.Hold(ctx))
	errs := waiters(t, srv.Endpoint(), 3)
	require.NoError(t, c.RevokeLease(ctx, s.Lease()))
	for range 3 {
		require.ErrorIs(t, <-errs, barrier.ErrHolderLost)
	}
	closes(t, holder.Context().Done())
	require.ErrorIs(t, context.Cause(holder.Context()), barrier.ErrLost)
	require.ErrorIs(t, context.Cause(holder.Context()), etcd.ErrLeaseLost)
	require.ErrorIs(t, holder.Release(ctx), barrier.ErrLost)
	require.ErrorIs(t, next.Wait(ctx), barrier.ErrHolderLost, "it stays shut")
	require.NoError(t, next.Hold(ctx))
	errs = waiters(t, srv.Endpoint(), 1)
	require.NoError(t, next.Release(ctx))
	require.NoError(t, <-errs)

	closed := newBarrier(t, c)
	require.NoError(t, closed.Hold(ctx))
	require.NoError(t, closed.Close())
	require.ErrorIs(t, closed.Hold(ctx), etcd.ErrClosed)
	require.ErrorIs(t, next.Wait(ctx), barrier.ErrHolderLost)
}

func TestDoubleBarrierBeginsAndEndsTogether(t *testing.T) {
	t.Parallel()
	const n, rounds = 5, 4
	srv := server(t)
	var wg sync.WaitGroup
	var in, out atomic.Int64
	for i := range n {
		var opts []barrier.Option
		c := client(t, config(srv).WithTimeout(busyTimeout))
		if i%2 == 0 {
			opts = append(opts, barrier.WithSession(newSession(t, c)))
		}
		d := newDouble(t, c, n, opts...)
		wg.Go(func() {
			for r := range int64(rounds) {
				in.Add(1)
				if err := d.Enter(within(t, patience)); err != nil {
					t.Errorf("enter: %v", err)
					return
				}
				if got := in.Load(); got < (r+1)*n {
					t.Errorf("entered as %d of %d had come", got, (r+1)*n)
				}
				if err := d.Enter(t.Context()); err == nil {
					t.Error("entered twice")
				}
				out.Add(1)
				if err := d.Leave(within(t, patience)); err != nil {
					t.Errorf("leave: %v", err)
					return
				}
				if got := out.Load(); got < (r+1)*n {
					t.Errorf("left as %d of %d had gone", got, (r+1)*n)
				}
			}
		})
	}
	wg.Wait()
	keys, err := client(t, config(srv)).List(t.Context(), prefix(t))
	require.NoError(t, err)
	require.LessOrEqual(t, len(keys), 1, "the turn alone: %q", keys)
}

func TestDoubleBarrierCountsOnNobodyWhoWithdrew(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	first, second := newDouble(t, c, 2), newDouble(t, c, 2)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, first.Enter(short), context.DeadlineExceeded)
	require.ErrorIs(t, first.Leave(t.Context()), barrier.ErrNotHeld)
	short, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, second.Enter(short), context.DeadlineExceeded, "the first is not there any more")
	entered := make(chan error, 2)
	for _, d := range []*barrier.Double{first, second} {
		go func() { entered <- d.Enter(within(t, patience)) }()
	}
	require.NoError(t, <-entered)
	require.NoError(t, <-entered)

	extra := newDouble(t, c, 2) // waits for the next round
	go func() { entered <- extra.Enter(within(t, patience)) }()
	left := make(chan error, 2)
	go func() { left <- first.Leave(within(t, patience)) }()
	require.NoError(t, second.Close()) // counts as having left
	require.NoError(t, <-left)
	require.Empty(t, entered)
	go func() { left <- first.Enter(within(t, patience)) }()
	require.NoError(t, <-entered)
	require.NoError(t, <-left)
}

func TestDoubleBarrierTellsALostPlace(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	s := newSession(t, c)
	lost, other := newDouble(t, c, 2, barrier.WithSession(s)), newDouble(t, c, 2)
	entered := make(chan error, 1)
	go func() { entered <- lost.Enter(within(t, patience)) }()
	require.Eventually(t, func() bool {
		n, err := c.Count(t.Context(), prefix(t)+"barrier\x01double/in/")
		return err == nil && n == 1
	}, patience, time.Millisecond)
	require.NoError(t, c.RevokeLease(t.Context(), s.Lease()))
	require.ErrorIs(t, <-entered, barrier.ErrLost)

	third := newDouble(t, c, 2)
	go func() { entered <- third.Enter(within(t, patience)) }()
	require.NoError(t, other.Enter(within(t, patience)))
	require.NoError(t, <-entered)
	leases, err := c.Raw().Leases(t.Context())
	require.NoError(t, err)
	for _, l := range leases.Leases {
		require.NoError(t, c.RevokeLease(t.Context(), etcd.LeaseID(l.ID)))
	}
	closes(t, other.Context().Done())
	require.ErrorIs(t, context.Cause(other.Context()), barrier.ErrLost)
	require.ErrorIs(t, other.Leave(t.Context()), barrier.ErrLost)
	require.ErrorIs(t, third.Leave(t.Context()), barrier.ErrLost)
	// The round is over although nobody has left: the next one begins.
	go func() { entered <- third.Enter(within(t, patience)) }()
	require.NoError(t, other.Enter(within(t, patience)))
	require.NoError(t, <-entered)
}

// entering starts to enter a double barrier, and returns its error when n are in.
func entering(ctx context.Context, t testing.TB, c *etcd.Client, d *barrier.Double, n int64) <-chan error {
	t.Helper()
	entered := make(chan error, 1)
	go func() { entered <- d.Enter(ctx) }()
	requireIn(t, c, n)
	return entered
}

// requireIn waits until n are in the double barrier.
func requireIn(t testing.TB, c *etcd.Client, n int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		in, err := c.Count(t.Context(), prefix(t)+"barrier\x01double/in/")
		return err == nil && in == n
	}, patience, time.Millisecond)
}

func TestCloseEndsWaitsAtADoubleBarrier(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	for _, opts := range [][]barrier.Option{nil, {barrier.WithSession(newSession(t, c))}} {
		alone := newDouble(t, c, 2, opts...)
		entered := entering(t.Context(), t, c, alone, 1)
		require.NoError(t, alone.Close())
		require.ErrorIs(t, <-entered, etcd.ErrClosed)
		requireIn(t, c, 0)

		first, second := newDouble(t, c, 2, opts...), newDouble(t, c, 2, opts...)
		entered = entering(t.Context(), t, c, first, 1)
		require.NoError(t, second.Enter(within(t, patience)))
		require.NoError(t, <-entered)
		left := make(chan error, 1)
		go func() { left <- first.Leave(t.Context()) }()
		requireIn(t, c, 1)
		require.NoError(t, first.Close())
		require.ErrorIs(t, <-left, etcd.ErrClosed)
		require.NoError(t, second.Leave(within(t, patience)))
	}
}

func TestDoubleBarrierSaysWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	first, second := newDouble(t, c, 2), newDouble(t, c, 2)
	entered := entering(t.Context(), t, c, first, 1)
	require.ErrorIs(t, first.Enter(within(t, patience)), barrier.ErrEntered)
	require.ErrorIs(t, first.Leave(within(t, patience)), barrier.ErrNotHeld)
	require.NoError(t, second.Enter(within(t, patience)))
	require.NoError(t, <-entered)
	left := make(chan error, 1)
	go func() { left <- first.Leave(t.Context()) }()
	requireIn(t, c, 1)
	require.ErrorIs(t, first.Leave(within(t, patience)), barrier.ErrNotHeld)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, first.Enter(short), context.DeadlineExceeded, "the round isn't over")
	require.NoError(t, second.Leave(within(t, patience)))
	require.NoError(t, <-left)
}

func TestDoubleBarrierRefusesAnotherSize(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	three := newDouble(t, c, 3)
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan error, 1)
	go func() { entered <- three.Enter(ctx) }()
	require.Eventually(t, func() bool {
		n, err := c.Count(t.Context(), prefix(t)+"barrier\x01double/in/")
		return err == nil && n == 1
	}, patience, time.Millisecond)
	err := newDouble(t, c, 2).Enter(within(t, patience))
	require.ErrorIs(t, err, barrier.ErrSize)
	cancel()
	require.Error(t, <-entered)
	n, err := c.Count(t.Context(), prefix(t)+"barrier\x01double/in/")
	require.NoError(t, err)
	require.Zero(t, n, "nothing is left behind")
}

func TestBarrierRefusesBadInputUnsent(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	var none context.Context
	s, err := c.NewSession(t.Context())
	require.NoError(t, err)
	foreign := newSession(t, client(t, config(srv)))
	b, d := newBarrier(t, c), newDouble(t, c, 1)
	for i, tc := range []struct {
		want error
		call func() error
	}{
		{etcd.ErrEmptyKey, func() error { return second(barrier.New(c, "")) }},
		{etcd.ErrEmptyKey, func() error { return second(barrier.NewDouble(c, "", 1)) }},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.New(c, "a\x00b")) }},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.New(c, "a\x01b")) }},
		{etcd.ErrTooLarge, func() error { return second(barrier.New(c, strings.Repeat("b", 4<<10+1))) }},
		{etcd.ErrTooLarge, func() error { return second(barrier.NewDouble(c, strings.Repeat("b", 4<<10+1), 1)) }},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.New(nil, "b")) }},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.NewDouble(c, "b", 0)) }},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.NewDouble(c, "b", -1)) }},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.NewDouble(c, "b", barrier.MaxSize+1)) }},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.New(c, "b", nil)) }},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.New(c, "b", barrier.WithSession(nil))) }},
		{etcd.ErrInvalidArgument, func() error {
			return second(barrier.New(c, "b", barrier.WithSession(s), barrier.WithTTL(time.Minute)))
		}},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.New(c, "b", barrier.WithSession(foreign))) }},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.NewDouble(c, "b", 1, barrier.WithSession(foreign))) }},
		{etcd.ErrInvalidArgument, func() error { return second(barrier.New(c, "b", barrier.WithSession(&etcd.Session{}))) }},
		{etcd.ErrInvalidTTL, func() error { return second(barrier.New(c, "b", barrier.WithTTL(0))) }},
		{etcd.ErrNilContext, func() error { return b.Hold(none) }},
		{etcd.ErrNilContext, func() error { return b.Release(none) }},
		{etcd.ErrNilContext, func() error { return b.Wait(none) }},
		{etcd.ErrNilContext, func() error { return d.Enter(none) }},
		{etcd.ErrNilContext, func() error { return d.Leave(none) }},
		{barrier.ErrNotHeld, func() error { return b.Release(t.Context()) }},
		{barrier.ErrNotHeld, func() error { return d.Leave(t.Context()) }},
	} {
		requireRefused(t, o, fmt.Sprint(i), tc.want, tc.call)
	}
	require.ErrorIs(t, b.Hold(canceled()), context.Canceled)
	require.NoError(t, s.Close(t.Context()))
	lost := newBarrier(t, c, barrier.WithSession(s))
	requireRefused(t, o, "lost session", barrier.ErrLost, func() error { return lost.Hold(t.Context()) })
}

func TestLostPlaceAtABarrierCanBeTakenAnew(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	b, d := newBarrier(t, c), newDouble(t, c, 1)
	require.NoError(t, b.Hold(ctx))
	require.NoError(t, d.Enter(ctx))
	leases, err := c.Raw().Leases(ctx)
	require.NoError(t, err)
	for _, l := range leases.Leases {
		require.NoError(t, c.RevokeLease(ctx, etcd.LeaseID(l.ID)))
	}
	closes(t, b.Context().Done())
	closes(t, d.Context().Done())
	require.NoError(t, b.Hold(ctx))
	require.NoError(t, d.Enter(ctx))
	require.NoError(t, b.Context().Err())
	require.NoError(t, d.Context().Err())
	require.NoError(t, b.Release(ctx))
	require.NoError(t, d.Leave(ctx))
}

func TestReleaseInDoubtCanBeCalledAgain(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	b := newBarrier(t, c, barrier.WithSession(newSession(t, c)))
	require.NoError(t, b.Hold(t.Context()))
	script := lostAnswer()
	script.times = 0
	ctx, cancel := context.WithCancel(faults.follow(t.Context(), script))
	defer cancel()
	released := make(chan error, 1)
	go func() { released <- b.Release(ctx) }()
	require.Eventually(t, func() bool { return script.executed.Load() > 0 }, patience, time.Millisecond)
	cancel()
	require.True(t, etcd.MaybeApplied(<-released))
	require.NoError(t, b.Release(t.Context()), "it was the earlier one")
	require.ErrorIs(t, b.Release(t.Context()), barrier.ErrNotHeld)
}

func TestCloseInDoubtLeavesNobodyAtABarrier(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	s := newSession(t, c)
	b, d := newBarrier(t, c, barrier.WithSession(s)), newDouble(t, c, 1, barrier.WithSession(s))
	require.NoError(t, d.Enter(t.Context()))
	for _, tc := range []struct {
		call   func(ctx context.Context) error
		close  func() error
		script *script
		left   string
	}{
		{b.Hold, b.Close, &script{answer: lostAnswer().answer, writesOnly: true}, "barrier/holder/"},
		{d.Leave, d.Close, &script{answer: lostAnswer().answer, writesOnly: true, refuse: true, times: 1}, "double/in/"},
	} {
		done := make(chan error, 1)
		go func() { done <- tc.call(faults.follow(t.Context(), tc.script)) }()
		require.Eventually(t, func() bool { return tc.script.seen.Load() > 0 }, patience, time.Millisecond)
		require.NoError(t, tc.close())
		<-done // with an error, unless a Leave was quicker
		n, err := c.Count(t.Context(), prefix(t)+"barrier\x01"+tc.left)
		require.NoError(t, err)
		require.Zero(t, n)
	}
}

func TestLostAnswersChangeNothingAtABarrier(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	s := newSession(t, c)
	b, d := newBarrier(t, c, barrier.WithSession(s)), newDouble(t, c, 1, barrier.WithSession(s))
	for _, call := range []func(ctx context.Context) error{b.Hold, b.Release, d.Enter, d.Leave} {
		script := lostAnswer()
		require.NoError(t, call(faults.follow(t.Context(), script)))
		require.GreaterOrEqual(t, script.seen.Load(), int64(2), "asked again")
	}
	require.NoError(t, b.Wait(t.Context()))
	keys, err := c.List(t.Context(), prefix(t))
	require.NoError(t, err)
	require.Len(t, keys, 1, "the turn alone: %q", keys)
}

// The barrier opens before the withdrawal of one who has waited long enough arrives.
func TestLateWithdrawalHasEnteredADoubleBarrier(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	own, last := newDouble(t, c, 2), newDouble(t, other, 2)
	ctx := within(t, patience)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	entered := entering(waiting, t, other, own, 1)
	withdrawal := holdRequest(o, func(txn *pb.TxnRequest) bool {
		return len(txn.Success) > 0 && txn.Success[0].GetRequestDeleteRange() != nil
	})
	cancel()
	next(t, withdrawal.held)
	require.NoError(t, last.Enter(ctx))
	close(withdrawal.release)
	require.NoError(t, next(t, entered))
	left := make(chan error, 1)
	go func() { left <- own.Leave(ctx) }()
	require.NoError(t, last.Leave(ctx))
	require.NoError(t, next(t, left))
}

func TestWaitAtADoubleBarrierTellsALostPlace(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	d := newDouble(t, c, 2)
	entered := entering(within(t, patience), t, c, d, 1)
	require.NoError(t, second(c.DeletePrefix(t.Context(), prefix(t)+"barrier\x01double/in/")))
	require.ErrorIs(t, next(t, entered), barrier.ErrLost)
}
