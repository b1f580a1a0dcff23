package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, endpoint string) *etcd.Client {
	t.Helper()
	client, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoint))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// follower is a run of follow, and what it has told so far.
type follower struct {
	*testing.T
	told chan change
	seen map[string]string
}

func startFollowing(t *testing.T, client *etcd.Client) *follower {
	t.Helper()
	f := &follower{T: t, told: make(chan change), seen: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- follow(ctx, client, "/app/", func(c change) {
			select {
			case f.told <- c:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
	return f
}

// until takes in changes until the view of the prefix is as wanted.
func (f *follower) until(want map[string]string) {
	f.Helper()
	patience := time.After(time.Minute)
	for fmt.Sprint(f.seen) != fmt.Sprint(want) {
		select {
		case c := <-f.told:
			if c.deleted {
				require.Contains(f, f.seen, c.key, "told before it is gone")
				delete(f.seen, c.key)
				continue
			}
			require.NotEqual(f, f.seen[c.key], string(c.value), "%s is told once", c.key)
			f.seen[c.key] = string(c.value)
		case <-patience:
			require.Equal(f, want, f.seen)
		}
	}
}

// While the follower is cut off a key is changed, one deleted, one deleted and created
// again, one created, and the history of all that is compacted.
func TestViewIsRightAfterCompactionWhileCutOff(t *testing.T) {
	server := etcdtest.New(t)
	proxy := etcdtest.NewProxy(t, server.Endpoint())
	writer, ctx := connect(t, server.Endpoint()), t.Context()
	put := func(key, value string) { require.NoError(t, writer.Put(ctx, "/app/"+key, []byte(value))) }
	remove := func(key string) {
		n, err := writer.Delete(ctx, "/app/"+key)
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
	}
	for _, key := range []string{"stays", "changes", "goes", "returns"} {
		put(key, "1")
	}
	f := startFollowing(t, connect(t, proxy.Endpoint()))
	f.until(map[string]string{"/app/stays": "1", "/app/changes": "1", "/app/goes": "1", "/app/returns": "1"})
	put("changes", "2") // by the watch
	f.until(map[string]string{"/app/stays": "1", "/app/changes": "2", "/app/goes": "1", "/app/returns": "1"})

	proxy.Refuse()
	proxy.Cut()
	put("changes", "3")
	put("changes", "4")
	remove("goes")
	remove("returns")
	put("returns", "2")
	put("comes", "1")
	revision, err := writer.Revision(ctx)
	require.NoError(t, err)
	_, err = writer.Raw().Compact(ctx, revision, clientv3.WithCompactPhysical())
	require.NoError(t, err)
	proxy.Heal()
	f.until(map[string]string{"/app/stays": "1", "/app/changes": "4", "/app/returns": "2", "/app/comes": "1"})

	remove("comes") // the watch goes on
	f.until(map[string]string{"/app/stays": "1", "/app/changes": "4", "/app/returns": "2"})
}

func TestArgumentsAreChecked(t *testing.T) {
	for _, args := range [][]string{nil, {""}, {"a", "b"}} {
		require.ErrorContains(t, run(t.Context(), args), "usage")
	}
}

func TestChangesArePrintedAsLines(t *testing.T) {
	require.Equal(t, "/a = 1", change{key: "/a", value: []byte("1")}.String())
	require.Equal(t, "/a is gone", change{key: "/a", deleted: true}.String())
}
