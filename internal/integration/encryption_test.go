package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

func TestEveryWritePathEncrypts(t *testing.T) {
	t.Parallel()
	for _, set := range []func(*etcd.Config) *etcd.Config{modes[2].set, modes[3].set} {
		c := client(t, set(config(server(t))))
		for name, write := range writePaths {
			before := revisionOf(t, c)
			require.NoError(t, write(t.Context(), c, prefix(t)+name), name)
			// Of every revision, not only of what is left at the end.
			for revision := before + 1; revision <= revisionOf(t, c); revision++ {
				resp, err := c.Raw().Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithMinModRev(revision), clientv3.WithRev(revision))
				require.NoError(t, err)
				for _, kv := range resp.Kvs {
					require.True(t, strings.HasPrefix(string(kv.Value), magic+"\x01\x02"), "%s: %q", name, kv.Key)
					require.NotContains(t, string(kv.Value), secret, name)
				}
			}
			count, err := c.Count(t.Context(), prefix(t)+name)
			require.NoError(t, err)
			require.Positive(t, count, "%s stores nothing", name)
		}
	}
}

func TestEveryReadPathDecrypts(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		want := map[string]string{p + "good": strings.Repeat("large ", 1000), p + "secret": secret}
		for key, value := range want {
			require.NoError(t, c.Put(ctx, key, []byte(value)))
		}
		for name, path := range readPaths {
			got, err := path.read(ctx, c, p, p+"secret")
			require.NoError(t, err, name)
			if path.single {
				require.Equal(t, map[string]string{p + "secret": secret}, got, name)
			} else {
				require.Equal(t, want, got, name)
			}
		}
	})
}

func TestWatchDecrypts(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, key := within(t, busyTimeout), prefix(t)+"key"
		watch := c.Watch(ctx, key, etcd.WithPrevKV())
		require.NoError(t, c.Put(ctx, key, []byte("1")))
		require.NoError(t, c.Put(ctx, key, []byte("2")))
		_, err := c.Delete(ctx, key)
		require.NoError(t, err)
		var got []string
		for len(got) < 3 {
			r := <-watch
			require.NoError(t, r.Err())
			for _, ev := range r.Events {
				require.NoError(t, ev.Err)
				assert.Equal(t, key, ev.Kv.Key)
				text := fmt.Sprintf("%s %s", ev.Type, ev.Kv.Value)
				if ev.PrevKv != nil {
					assert.Equal(t, key, ev.PrevKv.Key)
					text += fmt.Sprintf(" after %s", ev.PrevKv.Value)
				}
				got = append(got, text)
			}
		}
		require.Equal(t, []string{"PUT 1", "PUT 2 after 1", "DELETE  after 2"}, got)
	})
}
