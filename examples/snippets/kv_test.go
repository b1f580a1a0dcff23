package snippets

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func basicOperations(ctx context.Context, client *etcd.Client) ([]byte, bool, int64, error) {
	// Store data
	err := client.Put(ctx, "/config/app/timeout", []byte("30s"))

	// Retrieve data
	value, err := client.Get(ctx, "/config/app/timeout")

	// Check existence
	exists, err := client.Exists(ctx, "/config/app/timeout")

	// Delete
	deleted, err := client.Delete(ctx, "/config/app/timeout")
	return value, exists, deleted, err
}

func TestBasicOperationsStoreRetrieveAndDelete(t *testing.T) {
	t.Parallel()
	value, exists, deleted, err := basicOperations(t.Context(), newClient(t))
	require.NoError(t, err)
	require.Equal(t, "30s", string(value))
	require.True(t, exists)
	require.EqualValues(t, 1, deleted)
}

func prefixOperations(ctx context.Context, client *etcd.Client) ([]string, map[string][]byte, int64, error) {
	// Bulk insert
	kvs := map[string][]byte{
		"/users/alice": []byte(`{"name": "Alice"}`),
		"/users/bob":   []byte(`{"name": "Bob"}`),
	}
	err := client.BulkPut(ctx, kvs)

	// List keys with prefix
	keys, err := client.List(ctx, "/users/")

	// Get all values with prefix
	users, err := client.ListWithValues(ctx, "/users/")

	// Count keys with prefix
	count, err := client.Count(ctx, "/users/")
	return keys, users, count, err
}

func TestPrefixOperationsFindWhatWasInserted(t *testing.T) {
	t.Parallel()
	keys, users, count, err := prefixOperations(t.Context(), newClient(t))
	require.NoError(t, err)
	require.Equal(t, []string{"/users/alice", "/users/bob"}, keys)
	require.Equal(t, map[string][]byte{
		"/users/alice": []byte(`{"name": "Alice"}`),
		"/users/bob":   []byte(`{"name": "Bob"}`),
	}, users)
	require.EqualValues(t, 2, count)
}

func handleErrors(ctx context.Context, client *etcd.Client, use func(value []byte)) error {
	value, err := client.Get(ctx, "/some/key")
	if err != nil {
		if errors.Is(err, etcd.ErrKeyNotFound) {
			// Handle missing key
			return nil
		}
		return fmt.Errorf("failed to get key: %w", err)
	}
	use(value)
	return nil
}

func TestErrorHandlingTellsMissingKeysFromFailures(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	var used []string
	use := func(value []byte) { used = append(used, string(value)) }

	require.NoError(t, handleErrors(t.Context(), client, use))
	require.Empty(t, used)

	require.NoError(t, client.Put(t.Context(), "/some/key", []byte("value")))
	require.NoError(t, handleErrors(t.Context(), client, use))
	require.Equal(t, []string{"value"}, used)

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	err := handleErrors(cancelled, client, use)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "failed to get key: ")
}

func batch(ctx context.Context, client *etcd.Client, kvs map[string][]byte) {
	// Better: single transaction
	client.BulkPut(ctx, kvs)

	// Avoid: multiple individual operations
	for k, v := range kvs {
		client.Put(ctx, k, v) // Creates multiple round trips
	}
}

func TestBatchTakesOneRequestAndSinglesOneEach(t *testing.T) {
	t.Parallel()
	var requests requestLog
	client := connect(t, etcd.DefaultConfig().WithEndpoints(etcdtest.New(t).Endpoints()...).WithHooks(&requests))
	kvs := map[string][]byte{"/a": []byte("1"), "/b": []byte("2"), "/c": []byte("3")}

	before := len(requests.seen())
	batch(t.Context(), client, kvs)
	require.Equal(t, []string{"bulk put", "put", "put", "put"}, requests.seen()[before:])

	stored, err := client.ListWithValues(t.Context(), "/")
	require.NoError(t, err)
	require.Equal(t, kvs, stored)
}

// requestLog is a hook that notes the requests that succeeded.
type requestLog struct {
	mu  sync.Mutex
	ops []string
}

func (l *requestLog) BeforeRequest(ctx context.Context, _ etcd.RequestInfo) context.Context {
	return ctx
}

func (l *requestLog) AfterRequest(_ context.Context, req etcd.RequestInfo, res etcd.ResultInfo) {
	if res.Err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, req.Op)
}

func (l *requestLog) seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ops
}
