package integration

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// sealedWrites are writes beside those of writesOfTheAPI that store a value.
var sealedWrites = []write{
	{
		"guarded put",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			require.NoError(t, c.Put(t.Context(), key, []byte("old")))
			return func(ctx context.Context) error { return c.Put(ctx, key, []byte("new"), etcd.WithGuard()) }
		},
		nil,
	},
	{
		"guarded creation",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			return func(ctx context.Context) error { return c.Put(ctx, key, []byte("new"), etcd.WithGuard()) }
		},
		nil,
	},
	{
		"put with ttl",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := c.PutWithTTL(ctx, key, []byte("new"), time.Hour)
				return err
			}
		},
		nil,
	},
	{
		"import of decrypted values",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			require.NoError(t, c.Put(t.Context(), key, []byte("old")))
			var file bytes.Buffer
			_, err := c.Export(t.Context(), &file, key, etcd.WithDecryptedValues())
			require.NoError(t, err)
			return func(ctx context.Context) error { return second(c.Import(ctx, &file)) }
		},
		nil,
	},
	{
		"typed",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			values := etcd.NewTyped[string](c, key)
			return func(ctx context.Context) error { return values.Put(ctx, "/name", "value") }
		},
		nil,
	},
}

// claimName is what the key of a claim ends with.
var claimName = regexp.MustCompile("\x00[0-9a-f]{16}$")

// promoted holds that all that was changed after a revision is under now, and
// readable with that key alone, and returns how much that is. What claims say of their owners is
// sealed once: nobody depends on it, and it goes with its lease.
func promoted(t *testing.T, srv *etcdtest.Server, prefix string, after int64, now *etcd.EncryptionKey) int {
	t.Helper()
	c := client(t, config(srv).WithKeyring(ringOf(t, now)))
	resp, err := c.Raw().Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithMinModRev(after+1))
	require.NoError(t, err)
	stored := 0
	for _, kv := range resp.Kvs {
		if claimName.Match(kv.Key) {
			continue
		}
		_, err := c.Get(t.Context(), string(kv.Key))
		assert.NoError(t, err)
		stored++
	}
	return stored
}

// The server refuses the first attempt of every write for the moment, and until the
// second one another key was promoted.
func TestEveryAttemptIsSealedWithItsTimesKey(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	requireWritesUnder(t, srv, a, b, func(ring *etcd.Keyring, name string, call func(context.Context) error) {
		s := &script{writesOnly: true, times: 1, refuse: true, answer: rpctypes.ErrGRPCRequestTooManyRequests}
		s.arrived = func(context.Context) { assert.NoError(t, ring.Replace(b, a)) }
		require.NoError(t, call(faults.follow(t.Context(), s)), name)
		require.Greater(t, s.seen.Load(), int64(1), name)
	})
}

// requireWritesUnder has send call each write of the API, with a ring whose primary is a,
// and holds that all that it stores is under b.
func requireWritesUnder(t *testing.T, srv *etcdtest.Server, a, b *etcd.EncryptionKey,
	send func(ring *etcd.Keyring, name string, call func(context.Context) error),
) {
	t.Helper()
	stored := 0
	for i, op := range append(append([]write{}, writesOfTheAPI...), sealedWrites...) {
		ring := ringOf(t, a, b)
		c := client(t, config(srv).WithKeyring(ring).WithTimeout(busyTimeout))
		key := fmt.Sprintf("%s%03d", prefix(t), i)
		call := op.begin(t, c, key)
		before := revisionOf(t, c)
		send(ring, op.name, call)
		n := promoted(t, srv, key, before, b)
		t.Logf("%s: %d values", op.name, n)
		stored += n
	}
	require.Greater(t, stored, len(writesOfTheAPI), "most writes store something")
}

// What is sent later is sealed later, too: chunks after the first, and values that
// were proved or read under a key that has gone meanwhile.
func TestChunksAreSealedWhenTheyAreSent(t *testing.T) {
	t.Parallel()
	const n = 20
	chunks := []etcd.ChunkOption{etcd.WithChunkKeys(2), etcd.WithParallelism(1)}
	kvs := map[string][]byte{}
	for i := range n {
		kvs[fmt.Sprintf("/k/%02d", i)] = []byte("value")
	}
	for name, call := range map[string]func(t *testing.T, c *etcd.Client, faults *faults, s *script) error{
		"bulk put": func(t *testing.T, c *etcd.Client, faults *faults, s *script) error {
			return c.BulkPut(faults.follow(t.Context(), s), kvs, etcd.InChunks(chunks...))
		},
		"load": func(t *testing.T, c *etcd.Client, faults *faults, s *script) error {
			return second(c.BulkLoad(faults.follow(t.Context(), s), maps.All(kvs), chunks[0].(etcd.LoadOption), chunks[1].(etcd.LoadOption)))
		},
		"import of values as stored": func(t *testing.T, c *etcd.Client, faults *faults, s *script) error {
			require.NoError(t, c.BulkPut(t.Context(), kvs))
			var file bytes.Buffer
			_, err := c.Export(t.Context(), &file, "/k/")
			require.NoError(t, err)
			return second(c.Import(faults.follow(t.Context(), s), bytes.NewReader(file.Bytes()), chunks[0].(etcd.ImportOption), chunks[1].(etcd.ImportOption)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, faults := faultyServer(t)
			a, b := keyNumber(t, 1), keyNumber(t, 2)
			ring := ringOf(t, a, b)
			c := client(t, config(srv).WithKeyring(ring).WithTimeout(busyTimeout))
			var once sync.Once
			s := &script{writesOnly: true}
			s.arrived = func(context.Context) {
				once.Do(func() { // the first chunk is with the server and not carried out yet
					assert.NoError(t, ring.Replace(b, a))
					_, err := c.Reencrypt(t.Context(), "")
					assert.NoError(t, err)
					if !strings.HasPrefix(name, "import") { // which opens what it stores
						assert.NoError(t, ring.Replace(b))
					}
				})
			}
			require.NoError(t, call(t, c, faults, s))
			status, err := c.EncryptionStatus(t.Context(), "")
			require.NoError(t, err)
			require.Equal(t, map[etcd.KeyID]int64{b.ID(): n}, status.ByKey)
			require.NoError(t, ring.Replace(b))
			got, err := c.ListWithValues(t.Context(), "/k/")
			require.NoError(t, err)
			require.Len(t, got, n)
		})
	}
}

// A put that waits for its server for long meets another key when that comes.
func TestWaitingPutIsSealedWhenSent(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	ring := ringOf(t, a, b)
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()).WithKeyring(ring).WithTimeout(busyTimeout))
	proxy.Refuse()
	proxy.Cut()
	require.Eventually(t, func() bool {
		return etcd.IsRetryable(c.Put(within(t, 50*time.Millisecond), "/probe", nil))
	}, patience, time.Millisecond)
	const n = 20
	before := revisionOf(t, client(t, config(srv)))
	errs := make(chan error, n)
	var began sync.WaitGroup
	began.Add(n)
	for i := range n {
		go func() {
			began.Done()
			errs <- c.Put(t.Context(), fmt.Sprintf("/k/%02d", i), []byte("value"))
		}()
	}
	began.Wait()
	require.Never(t, func() bool { return len(errs) > 0 }, 200*time.Millisecond, 10*time.Millisecond)
	require.NoError(t, ring.Replace(b))
	proxy.Heal()
	for range n {
		require.NoError(t, <-errs)
	}
	require.Equal(t, n, promoted(t, srv, "/k/", before, b))
}

// Leaving plain GCM is a change of what is written, too. A value that fits under one
// suite may be too large under the other.
func TestValueThatOutgrowsTheLimitIsNotSent(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	a := keyNumber(t, 1)
	ring := ringOf(t, a.WithPlainGCM())
	c := client(t, config(srv).WithKeyring(ring).WithTimeout(busyTimeout))
	largest, smallest := 1<<21, 1<<20 // the first value does not fit, the second does
	for largest-smallest > 1 {
		n := (largest + smallest) / 2
		if err := c.Put(t.Context(), "/k", make([]byte, n)); err != nil {
			require.ErrorIs(t, err, etcd.ErrTooLarge)
			largest = n
		} else {
			smallest = n
		}
	}
	before := revisionOf(t, c)
	promote := func() *script {
		require.NoError(t, ring.Replace(a.WithPlainGCM()))
		s := &script{writesOnly: true, times: 1, refuse: true, answer: rpctypes.ErrGRPCRequestTooManyRequests}
		s.arrived = func(context.Context) { assert.NoError(t, ring.Replace(a)) }
		return s
	}
	err := c.Put(faults.follow(t.Context(), promote()), "/k", make([]byte, smallest))
	require.ErrorIs(t, err, etcd.ErrTooLarge)
	require.False(t, etcd.MaybeApplied(err))
	require.Equal(t, before, revisionOf(t, c))

	require.NoError(t, c.Put(faults.follow(t.Context(), promote()), "/k", make([]byte, smallest-100)))
	stored := storedBytes(t, client(t, config(srv)), "/k")
	require.Equal(t, byte(2), stored[5], "the suite of the stored value")
}

// A ring without a primary key seals nothing, not even what it had begun.
func TestPutIsNotSentWithoutAPrimaryKey(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	a := keyNumber(t, 1)
	ring := ringOf(t, a)
	c := client(t, config(srv).WithKeyring(ring).WithTimeout(busyTimeout))
	s := &script{writesOnly: true, times: 1, refuse: true, answer: rpctypes.ErrGRPCRequestTooManyRequests}
	s.arrived = func(context.Context) { assert.NoError(t, ring.Replace(nil, a)) }
	err := c.Put(faults.follow(t.Context(), s), "/k", []byte("value"))
	require.ErrorIs(t, err, etcd.ErrNoPrimaryKey)
	require.False(t, etcd.MaybeApplied(err))
	require.Equal(t, int64(1), s.seen.Load())
	require.Zero(t, s.executed.Load())
}

// The first attempt is applied and its answer lost; the second is sealed with
// another key. It is the same put, and executed once.
func TestGuardedPutKnowsWhatOlderKeySealed(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	ring := ringOf(t, a, b)
	c := client(t, config(srv).WithKeyring(ring).WithTimeout(busyTimeout))
	require.NoError(t, c.Put(t.Context(), "/k", []byte("old")))
	s := &script{writesOnly: true, times: 1, answer: status.Error(codes.Unavailable, "injected")}
	s.arrived = func(context.Context) { assert.NoError(t, ring.Replace(b, a)) }
	creation := &script{writesOnly: true, times: 1, answer: s.answer, arrived: s.arrived}
	require.NoError(t, c.Put(faults.follow(t.Context(), s), "/k", []byte("new"), etcd.WithGuard()))
	kv, err := c.GetKV(t.Context(), "/k")
	require.NoError(t, err)
	require.Equal(t, int64(3), kv.Version, "executed once, and encrypted again")
	require.Equal(t, "new", string(kv.Value))
	require.Contains(t, storedBytes(t, client(t, config(srv)), "/k"), string(idOf(b)))

	// So is a creation that was found.
	require.NoError(t, ring.Replace(a, b))
	require.NoError(t, c.Put(faults.follow(t.Context(), creation), "/new", []byte("new"), etcd.WithGuard()))
	require.Contains(t, storedBytes(t, client(t, config(srv)), "/new"), string(idOf(b)))
}

func idOf(key *etcd.EncryptionKey) []byte {
	id := key.ID()
	return id[:]
}

// Settle looks for all that was sent, whatever key it was sealed with.
func TestSettleKnowsWhatOlderKeySealed(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	ring := ringOf(t, a, b)
	c := client(t, config(srv).WithKeyring(ring).WithTimeout(busyTimeout))
	require.NoError(t, c.Put(t.Context(), "/k", []byte("old")))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &script{writesOnly: true, answer: status.Error(codes.Unavailable, "injected")}
	s.arrived = func(context.Context) {
		assert.NoError(t, ring.Replace(b, a))
		if s.seen.Load() > 1 {
			cancel()
		}
	}
	err := c.Put(faults.follow(ctx, s), "/k", []byte("new"), etcd.WithGuard())
	require.Error(t, err)
	require.True(t, etcd.MaybeApplied(err))
	outcome, err := c.Settle(t.Context(), err)
	require.NoError(t, err)
	require.Equal(t, etcd.OutcomeApplied, outcome)
}

// A request is on its way when another key is promoted, and a pass of Reencrypt has gone
// by when it arrives. Its value is encrypted again when it was answered.
func TestWriteOvertakenByAPromotionIsEncryptedAgain(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	requireWritesUnder(t, srv, a, b, func(ring *etcd.Keyring, name string, call func(context.Context) error) {
		s := &script{writesOnly: true, arrived: func(context.Context) { assert.NoError(t, ring.Replace(b)) }}
		require.NoError(t, call(faults.follow(t.Context(), s)), name)
	})

	// It keeps its lease.
	ring := ringOf(t, a)
	c := client(t, config(srv).WithKeyring(ring).WithTimeout(busyTimeout))
	lease, err := c.Grant(t.Context(), time.Hour)
	require.NoError(t, err)
	s := &script{writesOnly: true, arrived: func(context.Context) { assert.NoError(t, ring.Replace(b)) }}
	require.NoError(t, c.Put(faults.follow(t.Context(), s), "/leased", []byte("value"), etcd.WithLease(lease)))
	kv, err := c.GetKV(t.Context(), "/leased")
	require.NoError(t, err)
	require.Equal(t, lease, kv.Lease)
	require.Equal(t, "value", string(kv.Value))
}

// What was written in between stands, and so does the branch that was taken.
func TestOvertakenWriteReplacesNothingElse(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	ring := ringOf(t, a, b)
	c := client(t, config(srv).WithKeyring(ring).WithTimeout(busyTimeout))
	other := client(t, config(srv).WithKeyring(ringOf(t, b)))
	s := &script{writesOnly: true}
	s.arrived = func(context.Context) {
		if s.seen.Load() > 1 { // the second one encrypts again
			assert.NoError(t, other.Put(t.Context(), "/k", []byte("newer")))
			return
		}
		assert.NoError(t, ring.Replace(b))
	}
	require.NoError(t, c.Put(faults.follow(t.Context(), s), "/k", []byte("older")))
	require.Equal(t, int64(2), s.seen.Load())
	requireValue(t, other, "/k", "newer")

	require.NoError(t, ring.Replace(a))
	s = &script{writesOnly: true, arrived: func(context.Context) { assert.NoError(t, ring.Replace(b)) }}
	_, err := c.Txn().If(etcd.Missing("/new")).
		Then(etcd.OpPut("/new", []byte("taken"))).
		Else(etcd.OpPut("/new", []byte("not taken"))).Commit(faults.follow(t.Context(), s))
	require.NoError(t, err)
	requireValue(t, other, "/new", "taken")
}
