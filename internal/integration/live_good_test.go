package integration

import (
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/live"
)

// uniform is a configuration whose fields are written in one transaction: all hold the
// same number, and Sum is its checksum.
type uniform struct {
	A, B, C int
	Inner   struct{ D int }
	Sum     uint32
	Bad     bool // makes the validator refuse it
}

func uniformSum(n int) uint32 { return crc32.ChecksumIEEE(fmt.Append(nil, n)) }

// isWhole reports whether all fields are of one transaction, and a good one.
func (n *uniform) isWhole() bool {
	return n.A == n.B && n.B == n.C && n.C == n.Inner.D && n.Sum == uniformSum(n.A) && !n.Bad
}

// uniformValues returns the keys of a configuration. One in ten is bad, in turn in each of the
// ways in which one can be.
func uniformValues(p string, n int) (values map[string]string, good bool) {
	number := fmt.Sprint(n)
	values = map[string]string{
		p + "a": number, p + "b": number, p + "c": number, p + "inner/d": number, p + "sum": fmt.Sprint(uniformSum(n)), p + "bad": "false",
	}
	if n%10 != 3 {
		return values, true
	}
	switch n / 10 % 4 {
	case 0:
		values[p+"b"] = "no number"
	case 1:
		values[p+"bad"] = "true"
	case 2:
		values[p+"sum"] = "-1"
	case 3:
		values[p+"c"] = ""
	}
	return values, false
}

var errMarkedBad = errors.New("marked as bad")

func TestReadersNeverSeeABadOrMixedConfiguration(t *testing.T) {
	t.Parallel()
	const changes, readers = 10_000, 8
	c := client(t, config(server(t)).WithEncryption(testKey))
	p := prefix(t)
	first, _ := uniformValues(p, 0)
	commit(t, c, first)
	v := liveOf[uniform](t, c, p, live.WithValidate(func(n *uniform) error {
		if n.Bad {
			return errMarkedBad
		}
		return nil
	}))
	written := make(chan struct{})
	var wait sync.WaitGroup
	seen := make([]int, readers)
	for i := range readers {
		wait.Go(func() {
			last := v.Load()
			often := time.NewTicker(time.Millisecond) // leaves the machine to the writer
			defer often.Stop()
			for done := false; !done; {
				select {
				case <-written:
					done = true
				case <-often.C:
				}
				now := v.Load()
				if !now.isWhole() || now.A%10 == 3 || now.A < last.A {
					t.Errorf("%+v after %+v", *now, *last)
					return
				}
				if now != last {
					last = now
					seen[i]++
				}
			}
		})
	}
	var told int
	steps := v.Changes(t.Context())
	wait.Go(func() {
		for step := range steps {
			if !step.New.isWhole() || step.New.A <= step.Old.A || len(step.Fields) == 0 {
				t.Errorf("%+v", step)
			}
			if told++; step.Err != nil || step.New.A == changes {
				return
			}
		}
	})
	ctx := t.Context() // however long the machine takes
	for n := 1; n <= changes; n++ {
		values, _ := uniformValues(p, n)
		var ops []etcd.Op
		for key, value := range values {
			ops = append(ops, etcd.OpPut(key, []byte(value)))
		}
		_, err := c.Txn().Then(ops...).Commit(ctx)
		require.NoError(t, err)
	}
	pace, began := keepPace(t), time.Now()
	served(t, v, func(n *uniform) bool { return n.A == changes })
	require.Less(t, time.Since(began), pace.allow(time.Second))
	close(written)
	wait.Wait()
	require.NoError(t, v.Err())
	for _, n := range seen {
		require.Greater(t, n, changes/500, "a reader saw too few to prove anything")
	}
	t.Logf("of %d changes, readers saw %v and a loop over Changes %d", changes, seen, told)
}

// If the newest of a burst is bad, the last good one of the burst is served, not the one
// from before it.
func TestLastGoodOfABurstIsServed(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	first, _ := uniformValues(p, 0)
	commit(t, c, first)
	hold, begun := make(chan struct{}), make(chan struct{}, 1)
	v := liveOf[uniform](t, c, p, live.WithValidate(func(n *uniform) error {
		if n.A == 1 { // until the rest of the burst has come
			begun <- struct{}{}
			<-hold
		}
		if n.Bad {
			return errMarkedBad
		}
		return nil
	}), live.WithValidateTimeout(patience))
	var last int64
	for n := 1; n <= 3; n++ {
		values, _ := uniformValues(p, n)
		if n == 1 {
			commit(t, c, values)
			next(t, begun)
			continue
		}
		last = commit(t, c, values)
	}
	// Both others have come.
	committed := time.Now()
	require.Eventually(t, func() bool { return v.Status().Confirmed.After(committed) }, patience, time.Millisecond)
	close(hold)
	refused := refusedAt(t, v, last)
	require.Equal(t, p+"b", refused.Key)
	served(t, v, func(n *uniform) bool { return n.A == 2 })
	require.Equal(t, last-1, v.Revision())
	require.ErrorIs(t, v.Err(), etcd.ErrEncoding, "the newest is still refused")
}
