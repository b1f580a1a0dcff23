package snippets

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// The snippets of docs/from-clientv3.md.

func getOr(ctx context.Context, client *etcd.Client, key string, fallback []byte) ([]byte, error) {
	value, err := client.Get(ctx, key)
	if errors.Is(err, etcd.ErrKeyNotFound) {
		value, err = fallback, nil
	}
	return value, err
}

func commitByHand(ctx context.Context, client *etcd.Client, key string, revision int64, value []byte, moved func(etcd.KeyValue, bool) error) error {
	result, err := client.Txn().
		If(etcd.ModRevision(key).Equal(revision)).
		Then(etcd.OpPut(key, value)).
		Else(etcd.OpGet(key)).
		Commit(ctx)
	if err != nil {
		return err
	}
	if !result.Succeeded {
		current, exists := result.KV(key)
		return moved(current, exists)
	}
	return nil
}

func follow(ctx context.Context, client *etcd.Client, prefix string, apply func(etcd.KeyValue), change func(*etcd.Event)) error {
	list, err := client.Range(ctx, prefix)
	if err != nil {
		return err
	}
	for _, kv := range list.KVs {
		apply(kv)
	}
	for response := range client.WatchPrefix(ctx, prefix, etcd.WithRevision(list.Revision+1)) {
		if err := response.Err(); err != nil {
			return err // of ErrCompacted: list again, and compare; deletions aren't delivered again
		}
		for _, event := range response.Events {
			change(event)
		}
	}
	return nil
}

func criticalSection(ctx context.Context, client *etcd.Client, report func(context.Context) error) error {
	return client.WithLock(ctx, "/locks/report", func(ctx context.Context) error {
		return report(ctx) // ctx ends should the lock be lost, and then nothing is written with it
	})
}

func leader(ctx context.Context, client *etcd.Client, address string, schedule func(context.Context) error) error {
	err := client.Lead(ctx, "/elections/scheduler", []byte(address), func(ctx context.Context) error {
		return schedule(ctx) // ctx ends should the leadership be lost, and then nothing is written with it
	})
	return err
}

func transfer(ctx context.Context, client *etcd.Client, balances *etcd.Typed[int], amount int) error {
	err := client.Transact(ctx, func(tx *etcd.Tx) error {
		from, err := balances.GetIn(tx, "alice")
		if err != nil {
			return err
		}
		to, err := balances.GetIn(tx, "bob")
		if err != nil {
			return err
		}
		if err := balances.PutIn(tx, "alice", from-amount); err != nil {
			return err
		}
		return balances.PutIn(tx, "bob", to+amount)
	})
	return err
}

func TestWaysFromClientv3DoWhatTheySay(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	ctx := t.Context()

	value, err := getOr(ctx, client, "/v3/none", []byte("fallback"))
	require.NoError(t, err)
	require.Equal(t, "fallback", string(value))

	require.NoError(t, client.Put(ctx, "/v3/key", []byte("1")))
	_, revision, err := client.GetWithRevision(ctx, "/v3/key")
	require.NoError(t, err)
	errMoved := errors.New("moved")
	moved := func(current etcd.KeyValue, exists bool) error {
		require.True(t, exists)
		require.Equal(t, "2", string(current.Value))
		return errMoved
	}
	require.NoError(t, commitByHand(ctx, client, "/v3/key", revision, []byte("2"), moved))
	require.ErrorIs(t, commitByHand(ctx, client, "/v3/key", revision, []byte("3"), moved), errMoved)

	following, stop := context.WithCancel(ctx)
	defer stop()
	var seen []string
	require.NoError(t, follow(following, client, "/v3/key", func(kv etcd.KeyValue) {
		seen = append(seen, string(kv.Value))
		require.NoError(t, client.Put(ctx, "/v3/key", []byte("4")))
	}, func(event *etcd.Event) {
		seen = append(seen, string(event.Kv.Value))
		stop()
	}))
	require.Equal(t, []string{"2", "4"}, seen)

	require.NoError(t, criticalSection(ctx, client, func(ctx context.Context) error {
		return client.Put(ctx, "/v3/report", nil)
	}))

	require.NoError(t, leader(ctx, client, "10.0.0.7:80", func(ctx context.Context) error {
		return client.Put(ctx, "/v3/schedule", nil)
	}))

	balances := etcd.NewTyped[int](client, "/v3/balances/")
	require.NoError(t, balances.Put(ctx, "alice", 10))
	require.NoError(t, balances.Put(ctx, "bob", 0))
	require.NoError(t, transfer(ctx, client, balances, 4))
	bob, err := balances.Get(ctx, "bob")
	require.NoError(t, err)
	require.Equal(t, 4, bob.Value)
}
