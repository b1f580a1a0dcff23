package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// large is a value that is worth compressing.
var large = strings.Repeat("large enough to be compressed ", 100)

// policy holds what the values at keys are to clients, through every way to read
// them. The watches wait for the end: the server looks ten times a second only
// after those that begin in the past.
type policy struct {
	t       *testing.T
	watches []policyWatch
}

// reads holds that every way to read yields value at p+"odd", beside a good one.
func (h *policy) reads(c *etcd.Client, p, value string) {
	h.t.Helper()
	for name, path := range readPaths {
		got, err := path.read(h.t.Context(), c, p, p+"odd")
		require.NoError(h.t, err, name)
		require.Equal(h.t, value, got[p+"odd"], name)
		if !path.single {
			require.Equal(h.t, "good", got[p+"good"], name)
			require.Len(h.t, got, 2, name)
		}
	}
	h.watch(c, p+"odd", value, nil)
}

// refuses holds that no way to read yields a value at p+"odd".
func (h *policy) refuses(c *etcd.Client, p string, want error) {
	h.t.Helper()
	for name, path := range readPaths {
		got, err := path.read(h.t.Context(), c, p, p+"odd")
		requireUndecodable(h.t, err, p+"odd", want, name)
		require.NotContains(h.t, got, p+"odd", name)
		if !path.single {
			require.Equal(h.t, "good", got[p+"good"], name)
		}
	}
	h.watch(c, p+"odd", "", want)
}

func (h *policy) watch(c *etcd.Client, key, value string, err error) {
	kv, _ := c.GetKV(h.t.Context(), key) // an undecodable one has a revision as well
	h.watches = append(h.watches, policyWatch{c, key, kv.ModRevision, value, err})
}

// done checks the watches.
func (h *policy) done() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	channels := make([]etcd.WatchChan, len(h.watches))
	for i, w := range h.watches {
		channels[i] = w.client.Watch(ctx, w.key, etcd.WithRevision(w.revision))
	}
	for i, w := range h.watches {
		ev := next(h.t, channels[i]).Events[0]
		if w.err != nil {
			require.Nil(h.t, ev.Kv.Value)
			requireUndecodable(h.t, ev.Err, w.key, w.err, "watch")
			continue
		}
		require.NoError(h.t, ev.Err)
		require.Equal(h.t, w.value, string(ev.Kv.Value))
	}
}

// planted is what must never come out of a client that requires encryption.
const planted = "planted by somebody else "

func flip(s string, at int) string {
	b := []byte(s)
	b[at] ^= 1
	return string(b)
}

// plant stores bytes as they are.
func plant(t *testing.T, c *etcd.Client, key, stored string) {
	t.Helper()
	_, err := c.Raw().Put(t.Context(), key, stored)
	require.NoError(t, err)
}

// storedBytes returns what is stored under key.
func storedBytes(t *testing.T, c *etcd.Client, key string) string {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), key)
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1)
	return string(resp.Kvs[0].Value)
}

// requireUndecodable checks the error of a read that met a bad value.
func requireUndecodable(t *testing.T, err error, key string, want error, what string) {
	t.Helper()
	require.ErrorIs(t, err, want, what)
	var de *etcd.DecodeError
	require.ErrorAs(t, err, &de, what)
	require.Equal(t, key, de.Key, what)
	require.NotContains(t, err.Error(), strings.TrimSpace(planted), what)
	require.NotContains(t, err.Error(), secret, what)
	require.False(t, etcd.MaybeApplied(err), what)
	require.False(t, etcd.IsRetryable(err), what)
}

// eventsOf describes the next n events of a watch.
func eventsOf(t *testing.T, watch etcd.WatchChan, n int) []string {
	t.Helper()
	var out []string
	for len(out) < n {
		r, ok := <-watch
		require.True(t, ok)
		require.NoError(t, r.Err())
		for _, ev := range r.Events {
			text := ev.Type.String()
			var de *etcd.DecodeError
			switch {
			case ev.Kv.Value != nil:
				text += " " + string(ev.Kv.Value)
			case ev.Type == etcd.EventPut:
				require.ErrorAs(t, ev.Err, &de)
				text += " bad"
			}
			switch {
			case ev.PrevKv != nil:
				text += " after " + string(ev.PrevKv.Value)
			case ev.Err != nil && (ev.Kv.Value != nil || ev.Type == etcd.EventDelete):
				require.ErrorAs(t, ev.Err, &de)
				text += " after bad"
			}
			if ev.Err != nil {
				require.ErrorIs(t, ev.Err, etcd.ErrNotEncrypted)
			}
			out = append(out, text)
		}
	}
	return out
}

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

func revisionOf(t *testing.T, c *etcd.Client) int64 {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), "none")
	require.NoError(t, err)
	return resp.Header.Revision
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

// increments is how many increments contend for one key.
var increments = flag.Int("contention.increments", 160, "how many increments contend for one key")

// transactIncrement adds one in a software transaction.
func transactIncrement(ctx context.Context, c *etcd.Client, key string) error {
	return c.Transact(ctx, func(tx *etcd.Tx) error {
		old, err := tx.Get(key)
		if err != nil {
			return err
		}
		value, err := increment(old)
		if err != nil {
			return err
		}
		tx.Put(key, value)
		return nil
	}, etcd.WithMaxAttempts(*increments))
}

type policyWatch struct {
	client   *etcd.Client
	key      string
	revision int64
	value    string
	err      error
}

// badValues are values that an encrypting client must not accept. Each is made of
// the bytes of a good one at the same place, and of one at another place.
var badValues = map[string]struct {
	make func(here, elsewhere string) string
	want error
}{
	"moved from another key": {func(_, elsewhere string) string { return elsewhere }, etcd.ErrDecrypt},
	"flipped at the end":     {func(here, _ string) string { return flip(here, len(here)-1) }, etcd.ErrDecrypt},
	"flipped in the body":    {func(here, _ string) string { return flip(here, 50) }, etcd.ErrDecrypt},
	"flipped in the nonce":   {func(here, _ string) string { return flip(here, 24) }, etcd.ErrDecrypt},
	"flipped in the key id":  {func(here, _ string) string { return flip(here, 8) }, etcd.ErrUnknownKey},
	"flipped in the version": {func(here, _ string) string { return flip(here, 4) }, etcd.ErrUnsupportedFormat},
	"flipped in the magic":   {func(here, _ string) string { return flip(here, 0) }, etcd.ErrNotEncrypted},
	"cut by a byte":          {func(here, _ string) string { return here[:len(here)-1] }, etcd.ErrDecrypt},
	"cut short":              {func(here, _ string) string { return here[:30] }, etcd.ErrCorrupt},
	"rolled by a byte":       {func(here, _ string) string { return here[1:] + here[:1] }, etcd.ErrNotEncrypted},
	"rolled in the body":     {func(here, _ string) string { return here[:48] + here[49:] + here[48:49] }, etcd.ErrDecrypt},
	"longer by a byte":       {func(here, _ string) string { return here + "x" }, etcd.ErrDecrypt},
	"nothing but the magic":  {func(string, string) string { return magic }, etcd.ErrCorrupt},
	"empty":                  {func(string, string) string { return "" }, etcd.ErrNotEncrypted},
	"plaintext":              {func(string, string) string { return planted }, etcd.ErrNotEncrypted},
	"framed, suite 00": {
		func(string, string) string { return magic + "\x01\x00\x00\x00" + planted },
		etcd.ErrNotEncrypted,
	},
	"later version": {func(string, string) string { return magic + "\x02\x00\x00\x00" + planted }, etcd.ErrUnsupportedFormat},
	"unknown suite": {func(string, string) string { return magic + "\x01\x03\x00\x00" + planted }, etcd.ErrUnsupportedFormat},
	"unknown flag":  {func(string, string) string { return magic + "\x01\x02\x10\x00" + planted }, etcd.ErrUnsupportedFormat},
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

// inDefaultSuite is the BySuite of so many values of the default suite.
func inDefaultSuite(n int64) map[etcd.Suite]int64 {
	return map[etcd.Suite]int64{etcd.SuiteXAES256GCM: n}
}
