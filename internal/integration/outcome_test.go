package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// boundWrites are writes that are bound to the mod revision of the key that they
// change. The key exists, with the value "old".
var boundWrites = map[string]func(ctx context.Context, c *etcd.Client, key, value string) error{
	"Update": func(ctx context.Context, c *etcd.Client, key, value string) error {
		return c.Update(ctx, key, func([]byte) ([]byte, error) { return []byte(value), nil })
	},
	"CompareAndSwapRevision": func(ctx context.Context, c *etcd.Client, key, value string) error {
		_, revision, err := c.GetWithRevision(ctx, key)
		if err != nil {
			return err
		}
		return done(c.CompareAndSwapRevision(ctx, key, revision, []byte(value)))
	},
	"Transact": func(ctx context.Context, c *etcd.Client, key, value string) error {
		return c.Transact(ctx, func(tx *etcd.Tx) error {
			_, err := tx.Get(key)
			tx.Put(key+"-beside", nil)
			tx.Put(key, []byte(value))
			return err
		})
	},
	"PutIfChanged": func(ctx context.Context, c *etcd.Client, key, value string) error {
		return done(c.PutIfChanged(ctx, key, []byte(value)))
	},
	"Put with guard": func(ctx context.Context, c *etcd.Client, key, value string) error {
		return c.Put(ctx, key, []byte(value), etcd.WithGuard())
	},
}

func TestSettleFindsWhatWasEncryptedInWhateverWay(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithNamespace("space/").WithTimeout(busyTimeout))
	for _, op := range writesOfTheAPI {
		want := etcd.OutcomeApplied
		switch op.name {
		case "delete", "bulk delete", "grant":
			want = etcd.OutcomeUnknown
		case "chunks", "bulk load", "import": // one request doesn't speak for all of them
			want = etcd.OutcomeUnknown
		case "lock", "try lock": // clean up behind themselves
			continue
		}
		key := prefix(t) + op.name
		call := op.begin(t, c, key)
		requireOutcome(t, c, call(faults.follow(t.Context(), losing(false))), want, op.name)
	}
}

func TestSettleFindsAWriteUnderLaterChanges(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	for name, write := range boundWrites {
		key := prefix(t) + name
		require.NoError(t, c.Put(t.Context(), key, []byte("old")))
		lost := write(faults.follow(t.Context(), losing(false)), c, key, "new")
		for i := range 3 {
			require.NoError(t, c.Put(t.Context(), key, []byte{byte(i)}))
		}
		requireOutcome(t, c, lost, etcd.OutcomeApplied, name)
	}
}

func TestSettleProvesABoundWriteImpossible(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	for _, m := range modes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		for name, write := range boundWrites {
			what := m.name + " " + name
			key := prefix(t) + what
			require.NoError(t, c.Put(t.Context(), key, []byte("old")))
			lost := write(faults.follow(t.Context(), losing(true)), c, key, "new")
			// It may be under way for as long as the key is as it was.
			requireOutcome(t, c, lost, etcd.OutcomeUnknown, what)
			require.NoError(t, c.Put(t.Context(), key, []byte("other")))
			requireOutcome(t, c, lost, etcd.OutcomeNotApplied, what)
			require.NoError(t, c.Put(t.Context(), key, []byte("another")))
			requireOutcome(t, c, lost, etcd.OutcomeNotApplied, what)
		}
	}
}

func TestSettleOfADeletion(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	ctx, key := t.Context(), prefix(t)
	drop := func() error {
		require.NoError(t, c.Put(ctx, key, []byte("old")))
		_, revision, err := c.GetWithRevision(ctx, key)
		require.NoError(t, err)
		return second(c.CompareAndDeleteRevision(faults.follow(ctx, losing(true)), key, revision))
	}
	lost := drop()
	require.NoError(t, c.Put(ctx, key, []byte("other")))
	requireOutcome(t, c, lost, etcd.OutcomeNotApplied, "changed")
	lost = drop()
	_, err := c.Delete(ctx, key)
	require.NoError(t, err)
	requireOutcome(t, c, lost, etcd.OutcomeUnknown, "deleted by whomever")
	require.NoError(t, c.Put(ctx, key, []byte("again")))
	requireOutcome(t, c, lost, etcd.OutcomeUnknown, "created again")
}

func TestSettleDoesNotGuess(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	plain, encrypted := client(t, config(srv)), client(t, config(srv).WithEncryption(testKey))
	ctx := t.Context()

	// Without encryption another client may have written just the same.
	key := prefix(t) + "plain"
	require.NoError(t, plain.Put(ctx, key, []byte("old")))
	requireOutcome(t, plain, boundWrites["Update"](faults.follow(ctx, losing(false)), plain, key, "new"), etcd.OutcomeUnknown, "equal")
	requireOutcome(t, plain, plain.Put(faults.follow(ctx, losing(false)), key, []byte("new")), etcd.OutcomeUnknown, "unbound")

	require.NoError(t, plain.Put(ctx, key, []byte("old")))
	requireOutcome(t, plain, boundWrites["Update"](faults.follow(ctx, losing(false)), plain, key, ""), etcd.OutcomeUnknown, "empty")

	// Where the other branch writes too, one of them may have been applied.
	require.NoError(t, encrypted.Put(ctx, key, []byte("old")))
	_, revision, err := encrypted.GetWithRevision(ctx, key)
	require.NoError(t, err)
	_, lost := encrypted.Txn().If(etcd.ModRevision(key).Equal(revision)).Then(etcd.OpPut(key, nil)).Else(etcd.OpDelete("other")).
		Commit(faults.follow(ctx, losing(true)))
	require.NoError(t, encrypted.Put(ctx, key, []byte("later")))
	requireOutcome(t, encrypted, lost, etcd.OutcomeUnknown, "other branch")

	// An unbound write that was not found may still be under way.
	key = prefix(t) + "encrypted"
	lost = encrypted.Put(faults.follow(ctx, losing(true)), key, []byte("new"))
	requireOutcome(t, encrypted, lost, etcd.OutcomeUnknown, "not found")
	require.NoError(t, encrypted.Put(ctx, key, []byte("new")))
	requireOutcome(t, encrypted, lost, etcd.OutcomeUnknown, "another write of the same value")

	// What was deleted or compacted left no trace.
	lost = encrypted.Put(faults.follow(ctx, losing(false)), key, []byte("new"))
	require.NoError(t, encrypted.Put(ctx, key, []byte("later")))
	requireOutcome(t, encrypted, lost, etcd.OutcomeApplied, "overwritten")
	_, err = encrypted.Raw().Compact(ctx, revisionOf(t, encrypted))
	require.NoError(t, err)
	requireOutcome(t, encrypted, lost, etcd.OutcomeUnknown, "compacted")
	lost = encrypted.Put(faults.follow(ctx, losing(false)), key, []byte("new"))
	requireOutcome(t, encrypted, lost, etcd.OutcomeApplied, "applied")
	_, err = encrypted.Delete(ctx, key)
	require.NoError(t, err)
	requireOutcome(t, encrypted, lost, etcd.OutcomeUnknown, "deleted")
}

func TestSettleAsksForNothingThatIsKnown(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithEncryption(testKey))
	ctx := t.Context()
	refused := c.Put(ctx, "key", nil, etcd.WithLease(1))
	require.ErrorIs(t, refused, etcd.ErrLeaseNotFound)
	for want, about := range map[etcd.Outcome]error{
		etcd.OutcomeApplied:    nil,
		etcd.OutcomeNotApplied: refused,
	} {
		require.Empty(t, o.during(func() {
			got, err := c.Settle(ctx, about)
			assert.NoError(t, err)
			assert.Equal(t, want, got)
		}))
	}
	got, err := c.Settle(ctx, c.Put(ctx, "", nil))
	require.NoError(t, err)
	require.Equal(t, etcd.OutcomeNotApplied, got)
}

func TestSettleThatCannotReadIsAnError(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	lost := c.Put(faults.follow(t.Context(), losing(false)), prefix(t), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	unanswered := &script{answer: status.Error(codes.Unavailable, "injected")}
	got, err := c.Settle(faults.follow(ctx, unanswered), lost)
	require.ErrorIs(t, err, etcd.ErrTimeout)
	require.Equal(t, etcd.OutcomeUnknown, got)
	require.False(t, etcd.MaybeApplied(err))
}

// Many clients write to few keys, and their requests or answers are lost. What
// Settle says of each write is held against everything that ever was in the store.
func TestSettleNeverLies(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	ctx, p := t.Context(), prefix(t)
	for i := range 4 {
		require.NoError(t, c.Put(ctx, fmt.Sprint(p, i), []byte("old")))
	}
	begin := revisionOf(t, c)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)

	var mu sync.Mutex
	claims := map[string]etcd.Outcome{} // by value
	var wg sync.WaitGroup
	for w := range 8 {
		random := rand.New(rand.NewPCG(seed, uint64(w)))
		wg.Go(func() {
			for i := range 60 {
				value, key := fmt.Sprint(w, " ", i), fmt.Sprint(p, random.IntN(4))
				name := []string{"Update", "Transact", "PutIfChanged", "Put with guard"}[random.IntN(4)]
				writing := ctx
				if random.IntN(2) == 0 {
					writing = faults.follow(ctx, losing(random.IntN(2) == 0))
				}
				err := boundWrites[name](writing, c, key, value)
				outcome, err := c.Settle(ctx, err)
				assert.NoError(t, err)
				mu.Lock()
				claims[value] = outcome
				mu.Unlock()
			}
		})
	}
	wg.Wait()

	written := map[string]int{}
	watching, stop := context.WithCancel(within(t, busyTimeout))
	defer stop()
	last := revisionOf(t, c)
	for r := range c.WatchPrefix(watching, p, etcd.WithRevision(begin)) {
		require.NoError(t, r.Err())
		for _, ev := range r.Events {
			written[string(ev.Kv.Value)]++
		}
		if r.Revision >= last {
			break
		}
	}
	counts := map[etcd.Outcome]int{}
	for value, outcome := range claims {
		counts[outcome]++
		require.LessOrEqual(t, written[value], 1, "%q", value)
		switch outcome {
		case etcd.OutcomeApplied:
			require.Equal(t, 1, written[value], "%q is said to be applied", value)
		case etcd.OutcomeNotApplied:
			require.Zero(t, written[value], "%q is said not to be applied", value)
		}
	}
	t.Logf("applied %d, not applied %d, unknown %d",
		counts[etcd.OutcomeApplied], counts[etcd.OutcomeNotApplied], counts[etcd.OutcomeUnknown])
	require.Positive(t, counts[etcd.OutcomeApplied])
	require.Positive(t, counts[etcd.OutcomeNotApplied])
}
