package live

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

type ported struct{ A, B int }

// fed is a value that a test feeds, in the place of etcd.
type fed struct {
	*Value[ported]
	feed chan revision
}

// newFed returns a value that holds A 0 and B 0, for a synctest bubble.
func newFed(t *testing.T, opts ...Option) *fed {
	t.Helper()
	v := &fed{&Value[ported]{name: "/c/", told: make(chan struct{})}, make(chan revision)}
	var err error
	v.settings, err = settingsOf(opts)
	require.NoError(t, err)
	v.builder, err = newBuilder[ported]("/c/", false, &v.settings)
	require.NoError(t, err)
	v.ctx, v.cancel = context.WithCancelCause(t.Context())
	first := state{revision: 1, entries: map[string]entry{"/c/a": {value: []byte("0")}, "/c/b": {value: []byte("0")}}}
	value, bad := v.builder.build(first)
	require.Nil(t, bad)
	v.take(1, value, false)
	f := &feed{backlog: newBacklog(first, true), revisions: func(yield func(revision) bool) {
		for {
			select {
			case r := <-v.feed:
				if !yield(r) {
					return
				}
			case <-v.ctx.Done():
				return
			}
		}
	}}
	v.tasks.Go(func() { v.run(f, nil) })
	t.Cleanup(v.Close)
	return v
}

// put feeds a revision that sets a key.
func (v *fed) put(revisionNumber int64, key, value string) {
	v.feed <- revision{revisionNumber, []change{{"/c/" + key, &entry{value: []byte(value)}}}}
	synctest.Wait()
}

func TestDebounceTakesWhatChangesLeadTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		judged := make(chan ported, 100)
		v := newFed(t, WithDebounce(time.Second), WithValidate(func(p *ported) error {
			if judged <- *p; p.A != p.B {
				return errors.New("half of it")
			}
			return nil
		}))
		<-judged // the first
		v.put(2, "a", "1")
		time.Sleep(999 * time.Millisecond)
		v.put(3, "b", "1")
		require.Equal(t, ported{}, *v.Load())
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, ported{}, *v.Load())
		require.Empty(t, judged)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.Equal(t, ported{1, 1}, *v.Load())
		require.EqualValues(t, 3, v.Revision())
		<-judged
		require.Empty(t, judged, "the state between was judged")

		// A bad end of a group doesn't bring back a state between.
		v.put(4, "a", "2")
		v.put(5, "b", "2")
		v.put(6, "a", "3")
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, ported{1, 1}, *v.Load())
		require.EqualValues(t, 6, v.Err().(*RejectedError).Revision)
		v.put(7, "b", "3")
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, ported{3, 3}, *v.Load())
		require.NoError(t, v.Err())
	})
}

func TestDebounceEndsAlthoughChangesGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newFed(t, WithDebounce(time.Second))
		began, n := time.Now(), 0
		for v.Load().A == 0 {
			n++
			v.put(int64(n+1), "a", fmt.Sprint(n))
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			require.LessOrEqual(t, time.Since(began), 10*time.Second)
		}
		require.Equal(t, 10*time.Second, time.Since(began))
	})
}

func TestEndOfAWaitIsNotedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newFed(t, WithDebounce(time.Hour))
		v.put(2, "a", "1")
		began := time.Now()
		v.Close()
		require.Zero(t, time.Since(began))
		require.Equal(t, 0, v.Load().A)
	})
}

func TestTimeOfAValidatorIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newFed(t, WithValidate(func(p *ported) error {
			time.Sleep(time.Duration(p.A) * time.Second)
			return nil
		}))
		v.put(2, "a", "4")
		time.Sleep(4 * time.Second)
		synctest.Wait()
		require.Equal(t, 4, v.Load().A)
		v.put(3, "a", "8")
		time.Sleep(DefaultValidateTimeout - 1)
		synctest.Wait()
		require.NoError(t, v.Err())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.ErrorIs(t, v.Err(), ErrValidateTimeout)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.NoError(t, v.Err())
		require.Equal(t, 8, v.Load().A)
	})
}

func TestFileIsWrittenAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newFed(t)
		// Nothing can be sealed by a client that is closed.
		c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints("127.0.0.1:1").WithLazyConnect())
		require.NoError(t, err)
		require.NoError(t, c.Close())
		v.file = &lastGood{client: c, path: t.TempDir() + "/last", place: "/" + "/c/"}
		v.put(2, "a", "1")
		first := v.Status().LastGood
		require.ErrorIs(t, first, etcd.ErrClosed)
		time.Sleep(time.Second)
		synctest.Wait()
		require.NotSame(t, first, v.Status().LastGood, "it was tried again")
	})
}
