package batch_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"

	"github.com/blueprint-go/etcd/internal/batch"
	"github.com/blueprint-go/etcd/internal/txntree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	call = batch.Call[string]
	load = batch.Batch[string]
)

func putOf(key string, size int) *call {
	return &call{Op: txntree.Put(&pb.PutRequest{Key: []byte(key)}), Size: size, Deadline: time.Now().Add(time.Minute)}
}

// notes has batches answered by their keys.
type notes struct {
	mu      sync.Mutex
	batches [][]string
}

func (n *notes) send(b *load) {
	var keys []string
	b.Encode(func(aboard []*call) {
		for _, c := range aboard {
			keys = append(keys, string(c.Op.GetRequestPut().GetKey()))
		}
	})
	n.mu.Lock()
	n.batches = append(n.batches, keys)
	n.mu.Unlock()
	for _, c := range b.Calls {
		c.Load = fmt.Sprint(len(keys))
	}
}

func started(f func()) error {
	go f()
	return nil
}

func TestBatchesGrowWithWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		l := batch.New(t.Context(), batch.Limits{Ops: 8, Bytes: 1000, InFlight: 2, Patience: time.Hour}, true, n.send, started)
		first, second := lead(t, l), lead(t, l)
		requireFull(t, l, "two are under way")
		var waiting sync.WaitGroup
		fates := make(chan batch.Fate, 3)
		queue := func(key string) *call {
			c := putOf(key, 10)
			l.Queue(c)
			waiting.Go(func() { fates <- l.Wait(t.Context(), c) })
			return c
		}
		a := queue("a")
		l.Leave(first)
		synctest.Wait()
		require.Equal(t, batch.Leading, <-fates, "a single one goes by itself")
		queue("b")
		queue("c")
		l.Leave(second)
		synctest.Wait()
		require.Equal(t, [][]string{{"b", "c"}}, n.batches, "beside the one that leads")
		l.Leave(a.Place())
		waiting.Wait()
		lead(t, l)
	})
}

func TestCrowdSendsOneBatchUntilAQuarterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		answered := make(chan struct{})
		l := batch.New(t.Context(), batch.Limits{Ops: 64, Bytes: 1000, InFlight: 4, Patience: time.Hour}, true, func(b *load) {
			n.send(b)
			<-answered
		}, started)
		var waiting sync.WaitGroup
		queue := func(from, to int) {
			for i := from; i < to; i++ {
				c := putOf(fmt.Sprint(i), 1)
				l.Queue(c)
				waiting.Go(func() { require.Equal(t, batch.Answered, l.Wait(t.Context(), c)) })
			}
			synctest.Wait()
		}
		var places []batch.Place
		for range 4 {
			places = append(places, lead(t, l))
		}
		queue(0, 16)
		require.Empty(t, n.batches)
		for _, place := range places {
			l.Leave(place)
		}
		synctest.Wait()
		require.Len(t, n.batches, 1)
		requireFull(t, l, "one is under way where it is crowded")
		queue(16, 31)
		require.Len(t, n.batches, 1)
		queue(31, 32)
		require.Len(t, n.batches, 2, "16 are a quarter")
		close(answered)
		waiting.Wait()
	})
}

func TestHotKeyCallsDoNotQueueUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		l := batch.New(t.Context(), batch.Limits{Ops: 64, Bytes: 1000, InFlight: 1, Patience: time.Hour}, true, n.send, started)
		fates := make(chan batch.Fate, 16)
		gather := func(keys ...string) (calls []*call) {
			place := lead(t, l)
			for _, key := range keys {
				c := putOf(key, 1)
				l.Queue(c)
				calls = append(calls, c)
				go func() { fates <- l.Wait(t.Context(), c) }()
				synctest.Wait()
			}
			l.Leave(place)
			synctest.Wait()
			return calls
		}
		for _, c := range gather("a", "a", "a") {
			require.Equal(t, batch.Leading, <-fates)
			require.Empty(t, fates, "few keep their order")
			l.Leave(c.Place())
			synctest.Wait()
		}
		gather("a", "a", "a", "a", "a", "a", "b")
		require.Equal(t, [][]string{{"a", "b"}}, n.batches)
		all := map[batch.Fate]int{}
		for range 7 {
			all[<-fates]++
		}
		require.Equal(t, map[batch.Fate]int{batch.Answered: 2, batch.Alone: 5}, all)
		lead(t, l)
	})
}

// What only reads a key has nothing against others that read it.
func TestSharedConditionsKeepNobodyApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		l := batch.New(t.Context(), batch.Limits{Ops: 64, Bytes: 1000, InFlight: 1, Patience: time.Hour}, true, func(b *load) {
			b.Encode(func(aboard []*call) { sizes = append(sizes, len(aboard)) })
		}, started)
		place := lead(t, l)
		var waiting sync.WaitGroup
		for _, key := range []string{"a", "a", "b", "c", "d"} {
			c := putOf("", 1)
			c.Op = txntree.Txn(&pb.TxnRequest{
				Compare: []*pb.Compare{{Key: []byte("lock")}}, Success: []*pb.RequestOp{txntree.Put(&pb.PutRequest{Key: []byte(key)})},
			})
			l.Queue(c)
			waiting.Go(func() {
				if l.Wait(t.Context(), c) == batch.Leading {
					l.Leave(c.Place())
				}
			})
		}
		l.Leave(place)
		waiting.Wait()
		require.Equal(t, []int{4}, sizes, "and the second of a key by itself")
	})
}

// A request that is held up takes no place for longer than Patience.
func TestHeldUpRequestTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		l := batch.New(t.Context(), batch.Limits{Ops: 64, Bytes: 1000, InFlight: 1, Patience: 25 * time.Millisecond}, true, n.send, started)
		late := lead(t, l)
		began := time.Now()
		for range 3 {
			c := putOf("a", 1)
			l.Queue(c)
			require.Equal(t, batch.Leading, l.Wait(t.Context(), c))
			l.Leave(c.Place())
		}
		require.Equal(t, 25*time.Millisecond, time.Since(began), "but for the first")
		l.Leave(late)
		place := lead(t, l)
		requireFull(t, l, "no place was given back twice")
		l.Leave(place)
	})
}

func lead(t *testing.T, l *batch.Lane[string]) batch.Place {
	t.Helper()
	place, ok := l.Lead()
	require.True(t, ok)
	return place
}

func requireFull(t *testing.T, l *batch.Lane[string], why string) {
	t.Helper()
	_, ok := l.Lead()
	require.False(t, ok, why)
}

func TestClosedClientSendsCallsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		closed := func(func()) error { return errors.New("closed") }
		l := batch.New(t.Context(), batch.Limits{Ops: 8, Bytes: 1000, InFlight: 1, Patience: time.Hour}, true, n.send, closed)
		place := lead(t, l)
		a, b := putOf("a", 1), putOf("b", 1)
		l.Queue(a)
		l.Queue(b)
		l.Leave(place)
		require.Equal(t, batch.Alone, l.Wait(t.Context(), a))
		require.Equal(t, batch.Alone, l.Wait(t.Context(), b))
		require.Empty(t, n.batches)
		lead(t, l)
	})
}

func TestBatchEndsWhenNobodyWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		l := batch.New(t.Context(), batch.Limits{Ops: 8, Bytes: 1000, InFlight: 1, Patience: time.Hour}, true, func(b *load) {
			<-b.Context().Done()
			ended <- b.Context().Err()
		}, started)
		place := lead(t, l)
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		for _, key := range []string{"a", "b"} {
			c := putOf(key, 1)
			l.Queue(c)
			waiting.Go(func() { require.Equal(t, batch.Unsent, l.Wait(ctx, c)) })
		}
		l.Leave(place)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		waiting.Wait()
	})
}

func TestBatchLastsUntilTheLatestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ended := make(chan time.Duration, 1)
		l := batch.New(t.Context(), batch.Limits{Ops: 8, Bytes: 1000, InFlight: 1, Patience: time.Hour}, true, func(b *load) {
			<-b.Context().Done()
			ended <- time.Since(began)
		}, started)
		place := lead(t, l)
		for i, key := range []string{"a", "b"} {
			c := putOf(key, 1)
			c.Deadline = began.Add(time.Duration(i+1) * time.Second)
			l.Queue(c)
		}
		l.Leave(place)
		require.Equal(t, 2*time.Second, <-ended)
	})
}

func TestOnlySingleKeysAreJoinable(t *testing.T) {
	t.Parallel()
	put := txntree.Put(&pb.PutRequest{Key: []byte("a")})
	many := txntree.Range(&pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b")})
	txn := func(ops ...*pb.RequestOp) *pb.RequestOp { return txntree.Txn(&pb.TxnRequest{Success: ops}) }
	require.True(t, batch.Joinable(put))
	require.True(t, batch.Joinable(txn(put)))
	require.False(t, batch.Joinable(many))
	require.False(t, batch.Joinable(txn(put, many)))
	require.False(t, batch.Joinable(txn(txn(put))))
	require.False(t, batch.Joinable(txntree.Delete(&pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("b")})))
	require.False(t, batch.Joinable(txntree.Txn(&pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("a"), RangeEnd: []byte("b")}}})))
	require.False(t, batch.Joinable(&pb.RequestOp{}))
}
