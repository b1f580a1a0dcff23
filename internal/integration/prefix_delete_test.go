package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

func TestPrefixIsDeletedInChunksAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, namespace := range []string{"", "space/"} {
		srv, chunks := serverOfChunks(t)
		c := client(t, config(srv).WithNamespace(namespace).WithTimeout(busyTimeout))
		ctx := within(t, busyTimeout)
		others := []string{"p", "p.", "p0", "q"}
		for _, key := range others {
			require.NoError(t, c.Put(ctx, key, nil))
		}
		const keys = 12_345 // more than a page
		fill(t, c, "p/", keys)
		before := revisionOf(t, c)
		chunks.interfere(nil, nil)
		deleted, err := c.DeletePrefix(ctx, "p/", etcd.InChunks(etcd.WithChunkKeys(1000), etcd.WithParallelism(3)))
		require.NoError(t, err)
		require.EqualValues(t, keys, deleted)
		require.EqualValues(t, 13, revisionOf(t, c)-before, "chunks, each a revision")
		left, err := c.List(ctx, "")
		require.NoError(t, err)
		require.Equal(t, others, left)
		_, most := chunks.seen()
		require.LessOrEqual(t, most, 3)

		deleted, err = c.DeletePrefix(ctx, "", etcd.InChunks(), etcd.WithAllKeys())
		require.NoError(t, err)
		require.EqualValues(t, len(others), deleted)
		deleted, err = c.DeletePrefix(ctx, "", etcd.InChunks(), etcd.WithAllKeys())
		require.NoError(t, err)
		require.Zero(t, deleted)
	}
}

// A key of the namespace's neighbour is next to each end.
func TestDeletingAllKeysStaysWithinTheNamespace(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithNamespace("b/"))
	for _, key := range []string{"a/z", "b", "b/1", "b/2", "b0", "c/"} {
		plant(t, c, key, "")
	}
	deleted, err := c.DeletePrefix(t.Context(), "", etcd.WithAllKeys(), etcd.InChunks(etcd.WithChunkKeys(1)))
	require.NoError(t, err)
	require.EqualValues(t, 2, deleted)
	require.Equal(t, []string{"a/z", "b", "b0", "c/"}, storedKeys(t, c))
}

func TestRepeatedPrefixDeletionContinuesAFailedOne(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	const keys = 100
	for _, lost := range []bool{false, true} {
		fill(t, c, "p/", keys)
		answer := status.Error(codes.PermissionDenied, "etcdserver: permission denied")
		n := 0
		interfere := func([]string) error {
			if n++; n == 4 {
				return answer
			}
			return nil
		}
		if lost {
			answer = status.Error(codes.Unavailable, "injected")
			chunks.interfere(nil, interfere)
		} else {
			chunks.interfere(func(_ context.Context, keys []string) error { return interfere(keys) }, nil)
		}
		var r etcd.WriteResult
		one := etcd.InChunks(etcd.WithChunkKeys(10), etcd.WithParallelism(1))
		deleted, err := c.DeletePrefix(t.Context(), "p/", one, etcd.WithResult(&r))
		require.Error(t, err)
		require.EqualValues(t, 30, deleted, "those that are certain")
		require.True(t, etcd.MaybeApplied(err), "some are deleted")
		var e *etcd.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "p/00030", e.Key)
		require.True(t, e.Sent)
		outcome, bad := c.Settle(t.Context(), err)
		require.NoError(t, bad)
		require.Equal(t, etcd.OutcomeUnknown, outcome)
		left, err := c.Count(t.Context(), "p/")
		require.NoError(t, err)
		if lost {
			require.EqualValues(t, 60, left)
			require.Equal(t, r.Revision+1, revisionOf(t, c))
		} else {
			require.EqualValues(t, 70, left)
			require.Equal(t, r.Revision, revisionOf(t, c))
		}
		chunks.interfere(nil, nil)
		deleted, err = c.DeletePrefix(t.Context(), "p/", one)
		require.NoError(t, err)
		require.Equal(t, left, deleted)
	}
}

// What is written behind the page that was read is deleted or not; what was there
// before is, and the keys of others are left alone.
func TestChunkedPrefixDeletionMissesNothingThatWasThere(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c, writer := client(t, config(srv).WithTimeout(busyTimeout)), client(t, config(srv))
	fill(t, c, "p/", 1000)
	var written atomic.Int64
	o.around(nil, func(req any) {
		if _, txn := req.(*pb.TxnRequest); txn {
			n := written.Add(1)
			assert.NoError(t, writer.Put(t.Context(), fmt.Sprintf("p/%05d-", n*7), nil))
			assert.NoError(t, writer.Put(t.Context(), fmt.Sprintf("q/%d", n), nil))
		}
	})
	_, err := c.DeletePrefix(t.Context(), "p/", etcd.InChunks(etcd.WithChunkKeys(50), etcd.WithParallelism(2)))
	o.around(nil, nil)
	require.NoError(t, err)
	left, err := c.List(t.Context(), "p/")
	require.NoError(t, err)
	for _, key := range left {
		require.True(t, strings.HasSuffix(key, "-"), key)
	}
	others, err := c.Count(t.Context(), "q/")
	require.NoError(t, err)
	require.Equal(t, written.Load(), others)
}

func TestBadDeletionInChunksIsRefused(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	for what, opts := range map[string][]etcd.DeletePrefixOption{
		"no keys":       {etcd.InChunks(etcd.WithChunkKeys(0))},
		"none at once":  {etcd.InChunks(etcd.WithParallelism(0))},
		"negative rate": {etcd.InChunks(etcd.WithKeysPerSecond(-1))},
		"nil option":    {etcd.InChunks(nil)},
		"nil":           {nil},
	} {
		requireRefused(t, o, what, etcd.ErrInvalidArgument, func() error { return second(c.DeletePrefix(t.Context(), "k", opts...)) })
	}
	requireRefused(t, o, "all keys", etcd.ErrEmptyPrefix, func() error { return second(c.DeletePrefix(t.Context(), "", etcd.InChunks())) })
	var none context.Context
	requireRefused(t, o, "nil context", etcd.ErrNilContext, func() error { return second(c.DeletePrefix(none, "k", etcd.InChunks())) })
}

// A server that is slow with deletions gets a deletion of all and one in chunks.
func TestDeletionThatTakesTooLongNamesChunks(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	fill(t, c, "p/", 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.around(func(req any) {
		if _, slow := req.(*pb.DeleteRangeRequest); slow {
			<-ctx.Done()
		}
	}, nil)
	var err error
	require.Eventually(t, func() bool {
		err = second(c.DeletePrefix(within(t, 300*time.Millisecond), "p/"))
		return err == nil || etcd.MaybeApplied(err) // the time was not up before it was sent
	}, patience, time.Millisecond)
	cancel()
	require.ErrorIs(t, err, etcd.ErrTimeout)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "InChunks")
}

func TestSlowChunkSaysWhatToDo(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(300*time.Millisecond))
	release := make(chan struct{})
	defer close(release)
	chunks.interfere(func(ctx context.Context, _ []string) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return status.Error(codes.Unavailable, "late")
	}, nil)
	for name, err := range map[string]error{
		"load": second(c.BulkLoad(t.Context(), func(yield func(string, []byte) bool) { yield("k", make([]byte, 100_000)) })),
		"bulk": c.BulkPut(t.Context(), map[string][]byte{"k": make([]byte, 100_000)}, etcd.InChunks()),
	} {
		require.ErrorIs(t, err, etcd.ErrTimeout, name)
		require.ErrorContains(t, err, "a chunk of 1 keys and 1", name)
		require.ErrorContains(t, err, "WithParallelism", name)
		require.ErrorContains(t, err, "RequestTimeout", name)
	}
}

// Values larger than a chunk share a connection: they go one at a time, however many
// chunks may be under way.
func TestValuesLargerThanChunksGoOneByOne(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	kvs := map[string][]byte{}
	for i := range 8 {
		kvs[fmt.Sprint("k", i)] = make([]byte, 1<<20)
	}
	require.NoError(t, c.BulkPut(t.Context(), kvs, etcd.InChunks(etcd.WithParallelism(2))))
	applied, most := chunks.seen()
	require.Len(t, slices.Concat(applied...), len(kvs))
	require.Equal(t, 1, most)
}

func TestRateBoundsWhatIsSentInChunks(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	kvs, keys := small(40)
	rate := etcd.WithKeysPerSecond(20)
	for _, call := range []struct {
		name string
		make func() error
	}{
		{"BulkPut", func() error { return c.BulkPut(t.Context(), kvs, etcd.InChunks(rate)) }},
		{"BulkLoad", func() error { return second(c.BulkLoad(t.Context(), maps.All(kvs), rate)) }},
		{"DeletePrefix", func() error { return second(c.DeletePrefix(t.Context(), "small/", etcd.InChunks(rate))) }},
	} {
		chunks.interfere(nil, nil)
		began := time.Now()
		require.NoError(t, call.make(), call.name)
		require.GreaterOrEqual(t, time.Since(began), time.Second, call.name)
		applied, _ := chunks.seen()
		require.Len(t, applied, len(keys)/20, call.name)
	}
	require.Empty(t, versions(t, c))
}

func TestRateEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	kvs, keys := small(10)
	ctx, cancel := context.WithCancel(t.Context())
	watch := c.WatchPrefix(ctx, "", etcd.WithAllKeys())
	go func() {
		defer cancel()
		<-watch // the first chunk
	}()
	err := c.BulkPut(ctx, kvs, etcd.InChunks(etcd.WithChunkKeys(1), etcd.WithKeysPerSecond(1)))
	require.ErrorIs(t, err, context.Canceled)
	failure := bulkErrorOf(t, err, keys)
	require.NotEmpty(t, failure.Applied)
	require.Empty(t, failure.Unknown)
	require.NotEmpty(t, failure.NotApplied)
}
