package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestNoReadPathYieldsAForeignValue(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	stranger := client(t, config(srv).WithEncryption([]byte("another key of enough bytes")))
	compressor := client(t, config(srv).WithCompression(1024))
	plantAll := map[string]func(p string) error{
		"of another key": func(p string) error { return stranger.Put(t.Context(), p+"bad", []byte(planted)) },
		"compressed only": func(p string) error {
			return compressor.Put(t.Context(), p+"bad", []byte(strings.Repeat(planted, 100)))
		},
	}
	wants := map[string]error{"of another key": etcd.ErrUnknownKey, "compressed only": etcd.ErrNotEncrypted}
	for name, bad := range badValues {
		wants[name] = bad.want
		plantAll[name] = func(p string) error {
			if err := c.BulkPut(t.Context(), map[string][]byte{p + "bad": []byte(secret), p + "good": []byte("good")}); err != nil {
				return err
			}
			plant(t, c, p+"bad", bad.make(storedBytes(t, c, p+"bad"), storedBytes(t, c, p+"good")))
			return nil
		}
	}
	for name, plantOne := range plantAll {
		p := prefix(t) + name + "/"
		require.NoError(t, c.Put(t.Context(), p+"good", []byte("good")))
		require.NoError(t, plantOne(p), name)
		for path, read := range readPaths {
			what := fmt.Sprintf("%s through %s", name, path)
			got, err := read.read(t.Context(), c, p, p+"bad")
			requireUndecodable(t, err, p+"bad", wants[name], what)
			want := map[string]string{}
			if !read.single {
				want[p+"good"] = "good"
			}
			require.Equal(t, want, got, what)
		}
		requireUntouched(t, c, p, wants[name], name)
	}
}

// requireUntouched holds that what reads before it writes doesn't write, and that
// what needs no value doesn't mind.
func requireUntouched(t *testing.T, c *etcd.Client, p string, want error, name string) {
	t.Helper()
	ctx, bad := t.Context(), p+"bad"
	before := storedBytes(t, c, bad)
	never := func([]byte) ([]byte, error) {
		assert.Fail(t, "called with a value that is not ours")
		return nil, nil
	}
	for what, write := range map[string]func() error{
		"CompareAndSwap":   func() error { _, err := c.CompareAndSwap(ctx, bad, []byte(planted), nil); return err },
		"CompareAndDelete": func() error { _, err := c.CompareAndDelete(ctx, bad, []byte(planted)); return err },
		"Update":           func() error { return c.Update(ctx, bad, never) },
		"MoveKey":          func() error { return c.MoveKey(ctx, bad, p+"moved") },
		"condition": func() error {
			_, err := c.Txn().If(etcd.Value(bad).NotEqual(nil)).Then(etcd.OpDelete(bad)).Commit(ctx)
			return err
		},
	} {
		requireUndecodable(t, write(), bad, want, name+" through "+what)
	}
	require.Equal(t, before, storedBytes(t, c, bad), name)
	require.ErrorIs(t, c.MoveKey(ctx, p+"good", bad), etcd.ErrKeyExists, name)
	kv, err := c.GetKV(ctx, bad)
	require.Error(t, err)
	require.Positive(t, kv.ModRevision, "all but the value is known")
	swapped, err := c.PutIfNotExists(ctx, bad, nil)
	require.NoError(t, err)
	require.False(t, swapped)

	exists, err := c.Exists(ctx, bad)
	require.NoError(t, err)
	require.True(t, exists)
	count, err := c.Count(ctx, p)
	require.NoError(t, err)
	require.Equal(t, int64(2), count)
	keys, err := c.List(ctx, p)
	require.NoError(t, err)
	require.Equal(t, []string{bad, p + "good"}, keys)
	keys, err = c.GetKeysByPattern(ctx, p+"b*")
	require.NoError(t, err)
	require.Equal(t, []string{bad}, keys)
	res, err := c.Txn().Then(etcd.OpListPrefix(p)).Commit(ctx)
	require.NoError(t, err)
	require.NoError(t, res.Results[0].Err)
	require.Len(t, res.Results[0].KVs, 2)
	deleted, err := c.Delete(ctx, bad)
	require.NoError(t, err)
	require.Equal(t, int64(1), deleted)
}

func TestListReportsEachValueThatIsNotOurs(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	p := prefix(t)
	for _, key := range []string{"a", "c", "e"} {
		plant(t, c, p+key, planted)
		require.NoError(t, c.Put(t.Context(), p+key+"+", []byte(key)))
	}
	kvs, err := c.GetPrefix(t.Context(), p, 0)
	require.Equal(t, []string{p + "a+", p + "c+", p + "e+"}, keysOf(kvs))
	var joined interface{ Unwrap() []error }
	require.ErrorAs(t, err, &joined)
	var bad []string
	for _, err := range joined.Unwrap() {
		var de *etcd.DecodeError
		require.ErrorAs(t, err, &de)
		bad = append(bad, de.Key)
	}
	require.Equal(t, []string{p + "a", p + "c", p + "e"}, bad)
}

func TestWatchGoesOnAfterAForeignValue(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	ctx, p := within(t, busyTimeout), prefix(t)
	watch := c.WatchPrefix(ctx, p)
	withPrev := c.WatchPrefix(ctx, p, etcd.WithPrevKV())
	require.NoError(t, c.Put(ctx, p+"a", []byte("1")))
	plant(t, c, p+"a", planted)
	require.NoError(t, c.Put(ctx, p+"a", []byte("2")))
	plant(t, c, p+"a", planted)
	_, err := c.Delete(ctx, p+"a")
	require.NoError(t, err)
	require.NoError(t, c.Put(ctx, p+"b", []byte("3")))

	require.Equal(t, []string{"PUT 1", "PUT bad", "PUT 2", "PUT bad", "DELETE", "PUT 3"}, eventsOf(t, watch, 6))
	require.Equal(t, []string{
		"PUT 1", "PUT bad after 1", "PUT 2 after bad", "PUT bad after 2", "DELETE after bad", "PUT 3",
	}, eventsOf(t, withPrev, 6))
}
