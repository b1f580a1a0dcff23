package integration

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// magic is how every stored value of this package's format begins.
const magic = "\xff\x65\x63\x76"

// secret is what the tests of encryption store.
const secret = "a secret that is to stay one"

// writePaths are all ways in which a value gets to the server. Each stores secret
// under p or below it.
var writePaths = map[string]func(ctx context.Context, c *etcd.Client, p string) error{
	"Put": func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Put(ctx, p, []byte(secret))
	},
	"Put empty": func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Put(ctx, p, nil)
	},
	"PutIfNotExists": func(ctx context.Context, c *etcd.Client, p string) error {
		return done(c.PutIfNotExists(ctx, p, []byte(secret)))
	},
	"BulkPut": func(ctx context.Context, c *etcd.Client, p string) error {
		kvs := map[string][]byte{}
		for i := range 200 {
			kvs[fmt.Sprint(p, i)] = []byte(secret)
		}
		return c.BulkPut(ctx, kvs)
	},
	"BulkPut in chunks": func(ctx context.Context, c *etcd.Client, p string) error {
		return c.BulkPut(ctx, map[string][]byte{p: []byte(secret), p + "2": []byte(secret)}, etcd.InChunks(etcd.WithChunkKeys(1)))
	},
	"BulkLoad": func(ctx context.Context, c *etcd.Client, p string) error {
		return second(c.BulkLoad(ctx, maps.All(map[string][]byte{p: []byte(secret), p + "2": nil}), etcd.WithChunkKeys(1)))
	},
	"Txn Then": func(ctx context.Context, c *etcd.Client, p string) error {
		_, err := c.Txn().Then(etcd.OpPut(p, []byte(secret)), etcd.OpPut(p+"2", []byte(secret))).Commit(ctx)
		return err
	},
	"Txn Else": func(ctx context.Context, c *etcd.Client, p string) error {
		_, err := c.Txn().If(etcd.Value(p).Equal(nil)).Else(etcd.OpPut(p, []byte(secret))).Commit(ctx)
		return err
	},
	"Txn nested": func(ctx context.Context, c *etcd.Client, p string) error {
		if err := c.Put(ctx, p, nil); err != nil {
			return err
		}
		_, err := c.Txn().If(etcd.Value(p).Equal(nil), etcd.Missing(p+"-")).Then(etcd.OpPut(p, []byte(secret))).Commit(ctx)
		return err
	},
	"Txn OpTxn": func(ctx context.Context, c *etcd.Client, p string) error {
		put := func(key string) etcd.Op { return etcd.OpPut(p+key, []byte(secret)) }
		inner := c.Txn().If(etcd.Value(p).OfPrefix().Equal(nil)).Then(put("never")).Else(put("1"), etcd.OpTxn(c.Txn().Then(put("2"))))
		_, err := c.Txn().If(etcd.Missing(p)).Then(etcd.OpTxn(inner), put("3")).Commit(ctx)
		return err
	},
	"CompareAndSwap": func(ctx context.Context, c *etcd.Client, p string) error {
		if err := c.Put(ctx, p, []byte("old")); err != nil {
			return err
		}
		return done(c.CompareAndSwap(ctx, p, []byte("old"), []byte(secret)))
	},
	"CompareAndSwapRevision": func(ctx context.Context, c *etcd.Client, p string) error {
		return done(c.CompareAndSwapRevision(ctx, p, 0, []byte(secret)))
	},
	"Update": func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Update(ctx, p, func([]byte) ([]byte, error) { return []byte(secret), nil })
	},
	"Put with guard": func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Put(ctx, p, []byte(secret), etcd.WithGuard())
	},
	"PutIfChanged": func(ctx context.Context, c *etcd.Client, p string) error {
		return done(c.PutIfChanged(ctx, p, []byte(secret)))
	},
	"MoveKey": func(ctx context.Context, c *etcd.Client, p string) error {
		if err := c.Put(ctx, p, []byte(secret)); err != nil {
			return err
		}
		return c.MoveKey(ctx, p, p+"moved")
	},
	"CopyKey": func(ctx context.Context, c *etcd.Client, p string) error {
		if err := c.Put(ctx, p, []byte(secret)); err != nil {
			return err
		}
		return c.CopyKey(ctx, p, p+"copied")
	},
	"PutWithLease": func(ctx context.Context, c *etcd.Client, p string) error {
		id, err := c.Grant(ctx, time.Minute)
		if err != nil {
			return err
		}
		return c.PutWithLease(ctx, p, []byte(secret), id)
	},
	"PutWithTTL": func(ctx context.Context, c *etcd.Client, p string) error {
		_, err := c.PutWithTTL(ctx, p, []byte(secret), time.Minute)
		return err
	},
	"Import": func(ctx context.Context, c *etcd.Client, p string) error {
		return importUnder(ctx, c, p, p+"imported")
	},
	"Guarded import": func(ctx context.Context, c *etcd.Client, p string) error {
		return importUnder(ctx, c, p, p+"imported", etcd.WithOnlyMissing())
	},
}

// done makes an error of a no.
func done(ok bool, err error) error {
	if err == nil && !ok {
		return fmt.Errorf("was not done")
	}
	return err
}

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

func revisionOf(t *testing.T, c *etcd.Client) int64 {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), "none")
	require.NoError(t, err)
	return resp.Header.Revision
}

// readPath is a way to get values: those of a key alone, or of all that begin
// with a prefix too. The values are by key.
type readPath struct {
	single bool
	read   func(ctx context.Context, c *etcd.Client, p, key string) (map[string]string, error)
}

// keyed returns a single value by its key; none with an error.
func keyed(key string, value []byte, err error) (map[string]string, error) {
	if value == nil {
		return map[string]string{}, err
	}
	return map[string]string{key: string(value)}, err
}

func keyedKVs(kvs []etcd.KeyValue, err error) (map[string]string, error) {
	out := map[string]string{}
	for _, kv := range kvs {
		out[kv.Key] = string(kv.Value)
	}
	return out, err
}

// keyedScan joins the errors as a list does, and leaves out what has one.
func keyedScan(seq iter.Seq2[etcd.KeyValue, error]) (map[string]string, error) {
	out, bad := map[string]string{}, []error(nil)
	for kv, err := range seq {
		if err != nil {
			bad = append(bad, err)
			continue
		}
		out[kv.Key] = string(kv.Value)
	}
	return out, errors.Join(bad...)
}

func keyedMap(values map[string][]byte, err error) (map[string]string, error) {
	out := map[string]string{}
	for key, value := range values {
		out[key] = string(value)
	}
	return out, err
}

// resultOf is what a transaction read.
func resultOf(ctx context.Context, txn *etcd.Txn) (map[string]string, error) {
	res, err := txn.Commit(ctx)
	if err != nil {
		return map[string]string{}, err
	}
	return keyedKVs(res.Results[0].KVs, res.Results[0].Err)
}

// readPaths are all ways in which values come from the server, but for watches.
var readPaths = map[string]readPath{
	"Get": {true, func(ctx context.Context, c *etcd.Client, _, key string) (map[string]string, error) {
		value, err := c.Get(ctx, key)
		return keyed(key, value, err)
	}},
	"GetKV": {true, func(ctx context.Context, c *etcd.Client, _, key string) (map[string]string, error) {
		kv, err := c.GetKV(ctx, key)
		return keyed(kv.Key, kv.Value, err)
	}},
	"GetWithRevision": {true, func(ctx context.Context, c *etcd.Client, _, key string) (map[string]string, error) {
		value, _, err := c.GetWithRevision(ctx, key)
		return keyed(key, value, err)
	}},
	"Txn OpGet": {true, func(ctx context.Context, c *etcd.Client, _, key string) (map[string]string, error) {
		return resultOf(ctx, c.Txn().Then(etcd.OpGet(key)))
	}},
	"Transact": {true, func(ctx context.Context, c *etcd.Client, _, key string) (map[string]string, error) {
		var value []byte
		err := c.Transact(ctx, func(tx *etcd.Tx) (err error) {
			value, err = tx.Get(key)
			return err
		})
		return keyed(key, value, err)
	}},
	"ListWithValues": {false, func(ctx context.Context, c *etcd.Client, p, _ string) (map[string]string, error) {
		return keyedMap(c.ListWithValues(ctx, p))
	}},
	"GetRange": {false, func(ctx context.Context, c *etcd.Client, p, _ string) (map[string]string, error) {
		return keyedKVs(c.GetRange(ctx, p, p+"~"))
	}},
	"GetPrefix": {false, func(ctx context.Context, c *etcd.Client, p, _ string) (map[string]string, error) {
		return keyedKVs(c.GetPrefix(ctx, p, 0))
	}},
	"Range": {false, func(ctx context.Context, c *etcd.Client, p, _ string) (map[string]string, error) {
		found, err := c.Range(ctx, p)
		if found == nil {
			return nil, err
		}
		return keyedKVs(found.KVs, err)
	}},
	"Scan": {false, func(ctx context.Context, c *etcd.Client, p, _ string) (map[string]string, error) {
		return keyedScan(c.Scan(ctx, p))
	}},
	"Scan in reverse": {false, func(ctx context.Context, c *etcd.Client, p, _ string) (map[string]string, error) {
		return keyedScan(c.Scan(ctx, p, etcd.WithReverse()))
	}},
	"Export": {false, func(ctx context.Context, c *etcd.Client, p, _ string) (map[string]string, error) {
		return keyedExport(ctx, c, p)
	}},
	"BulkGet": {false, func(ctx context.Context, c *etcd.Client, p, key string) (map[string]string, error) {
		return keyedMap(c.BulkGet(ctx, []string{p + "good", key}))
	}},
	"BulkGet in chunks": {false, func(ctx context.Context, c *etcd.Client, p, key string) (map[string]string, error) {
		return keyedMap(c.BulkGet(ctx, []string{p + "good", key}, etcd.InChunks(etcd.WithChunkKeys(1))))
	}},
	"GetMultiple": {false, func(ctx context.Context, c *etcd.Client, p, key string) (map[string]string, error) {
		return keyedMap(c.GetMultiple(ctx, []string{p + "good", key}))
	}},
	"Txn OpGetRange": {false, func(ctx context.Context, c *etcd.Client, p, _ string) (map[string]string, error) {
		return resultOf(ctx, c.Txn().Then(etcd.OpGetRange(p, p+"~")))
	}},
	"Txn OpTxn": {false, func(ctx context.Context, c *etcd.Client, p, _ string) (map[string]string, error) {
		res, err := c.Txn().Then(etcd.OpTxn(c.Txn().Then(etcd.OpGetPrefix(p)))).Commit(ctx)
		if err != nil {
			return map[string]string{}, err
		}
		return keyedKVs(res.Results[0].Txn.Results[0].KVs, res.Err())
	}},
	"Txn OpGetPrefix": {false, func(ctx context.Context, c *etcd.Client, p, _ string) (map[string]string, error) {
		return resultOf(ctx, c.Txn().If(etcd.Exists(p+"none")).Else(etcd.OpGetPrefix(p)))
	}},
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
