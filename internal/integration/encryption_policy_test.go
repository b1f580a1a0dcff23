package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// oddValues are values that an encrypting client reads only if it is told to,
// each with what it means.
func oddValues(t *testing.T, c *etcd.Client) map[string][2]string {
	t.Helper()
	require.NoError(t, c.Put(t.Context(), "/compressed", []byte(large)))
	return map[string][2]string{
		"plaintext":  {"plaintext", "plaintext"},
		"empty":      {"", ""},
		"compressed": {storedBytes(t, c, "/compressed"), large},
		"framed":     {magic + "\x01\x00\x00\x00" + magic + " itself", magic + " itself"},
	}
}

func TestPlaintextIsReadUnderItsPrefixesOnly(t *testing.T) {
	t.Parallel()
	holding := &policy{t: t}
	defer holding.done()
	for _, namespace := range []string{"", "space/"} {
		srv := server(t)
		odd := oddValues(t, client(t, config(srv).WithCompression(1024)))
		root := prefix(t)
		c := client(t, config(srv).WithEncryption(testKey).WithNamespace(namespace).WithPlaintextReads(root+"open/", root+"also"))
		everywhere := client(t, config(srv).WithEncryption(testKey).WithNamespace(namespace).WithPlaintextReads(""))
		for name, value := range odd {
			for _, place := range []string{"open/", "also open/", "closed/", "open"} {
				p := root + place + name + "/"
				require.NoError(t, c.Put(t.Context(), p+"good", []byte("good")))
				require.True(t, strings.HasPrefix(storedBytes(t, c, namespace+p+"good"), magic+"\x01\x02"), "writes are encrypted")
				plant(t, c, namespace+p+"odd", value[0])
				holding.reads(everywhere, p, value[1])
				if strings.Contains(place, "open/") {
					holding.reads(c, p, value[1])
				} else {
					holding.refuses(c, p, etcd.ErrNotEncrypted)
				}
			}
		}
	}
}

// What bears the mark of the format is never taken for plaintext.
func TestDamagedValueIsNotReadAsPlaintext(t *testing.T) {
	t.Parallel()
	holding := &policy{t: t}
	defer holding.done()
	srv := server(t)
	c := client(t, config(srv).WithEncryption(testKey).WithPlaintextReads("").WithPlaintextWrites("").WithLegacyKey(legacyKey, ""))
	strict := client(t, config(srv).WithEncryption(testKey))
	for name, bad := range badValues {
		if bad.want == etcd.ErrNotEncrypted {
			continue
		}
		p := prefix(t) + name + "/"
		require.NoError(t, strict.BulkPut(t.Context(), map[string][]byte{p + "odd": []byte(secret), p + "good": []byte("good")}))
		plant(t, c, p+"odd", bad.make(storedBytes(t, c, p+"odd"), storedBytes(t, c, p+"good")))
		holding.refuses(c, p, bad.want)
	}
}

func TestLegacyValuesAreRead(t *testing.T) {
	t.Parallel()
	holding := &policy{t: t}
	defer holding.done()
	srv := server(t)
	c := client(t, config(srv).WithEncryption(testKey).WithLegacyKey(legacyKey, ""))
	without := client(t, config(srv).WithEncryption(testKey))
	wrong := client(t, config(srv).WithEncryption(testKey).WithLegacyKey([]byte("another key"), ""))
	migrating := client(t, config(srv).WithEncryption(testKey).WithLegacyKey(legacyKey, "").WithPlaintextReads(""))
	for _, value := range []string{"a value of the Blueprint provider", "", large, magic} {
		p := fmt.Sprintf("%s%.5s/", prefix(t), value)
		require.NoError(t, c.Put(t.Context(), p+"good", []byte("good")))
		stored := legacyValue(value)
		plant(t, c, p+"odd", stored)
		holding.reads(c, p, value)
		holding.reads(migrating, p, value)
		holding.refuses(without, p, etcd.ErrNotEncrypted)
		holding.refuses(wrong, p, etcd.ErrDecrypt)
		for _, damaged := range []string{flip(stored, 0), flip(stored, len(stored)-1), stored[:len(stored)-1], stored[1:], "short", ""} {
			plant(t, c, p+"odd", damaged)
			holding.refuses(c, p, etcd.ErrDecrypt)
		}
	}
	plant(t, c, "/plain", "plaintext")
	value, err := migrating.Get(t.Context(), "/plain")
	require.NoError(t, err)
	require.Equal(t, "plaintext", string(value))
}

// What is written without encryption is what a client of no configuration reads.
func TestPlaintextIsWrittenUnderItsPrefixesOnly(t *testing.T) {
	t.Parallel()
	holding := &policy{t: t}
	defer holding.done()
	srv := server(t)
	c := client(t, config(srv).WithEncryption(testKey).WithPlaintextWrites(prefix(t)+"open/"))
	plain, strict := client(t, config(srv)), client(t, config(srv).WithEncryption(testKey))
	for name, write := range writePaths {
		open, closed := prefix(t)+"open/"+name, prefix(t)+"closed/"+name
		require.NoError(t, write(t.Context(), c, open), name)
		require.NoError(t, write(t.Context(), c, closed), name)
		kvs, err := plain.GetPrefix(t.Context(), open, 0)
		require.NoError(t, err)
		require.NotEmpty(t, kvs, name)
		for _, kv := range kvs {
			require.NotContains(t, string(kv.Value), magic, name)
		}
		read, err := c.GetPrefix(t.Context(), open, 0)
		require.NoError(t, err)
		require.Equal(t, kvs, read, name)
		kvs, err = plain.GetPrefix(t.Context(), closed, 0)
		require.NoError(t, err)
		for _, kv := range kvs {
			require.True(t, strings.HasPrefix(string(kv.Value), magic+"\x01\x02"), name)
		}
	}
	// Others are ahead with the migration already.
	p := prefix(t) + "open/ahead/"
	require.NoError(t, strict.Put(t.Context(), p+"odd", []byte("encrypted")))
	require.NoError(t, c.Put(t.Context(), p+"good", []byte("good")))
	holding.reads(c, p, "encrypted")
}

func TestUnencryptedPrefixesAreLeftAlone(t *testing.T) {
	t.Parallel()
	holding := &policy{t: t}
	defer holding.done()
	for _, namespace := range []string{"", "space/"} {
		srv, o := observedServer(t)
		root := prefix(t) + "plain/"
		c := client(t, config(srv).WithEncryption(testKey).WithCompression(1024).WithNamespace(namespace).WithUnencryptedPrefixes(root))
		for name, write := range writePaths {
			p := root + name
			require.NoError(t, write(t.Context(), c, p), name)
			resp, err := client(t, config(srv)).GetPrefix(t.Context(), namespace+p, 0)
			require.NoError(t, err)
			require.NotEmpty(t, resp, name)
			for _, kv := range resp {
				require.NotContains(t, string(kv.Value), magic, name)
			}
		}
		// Whatever is there comes as it is, frames of the format too.
		for i, value := range []string{"plaintext", "", large, magic, magic + "\x01\x02\x00\x00damaged", legacyValue("v")} {
			p := fmt.Sprint(root, "odd", i, "/")
			require.NoError(t, c.Put(t.Context(), p+"good", []byte("good")))
			plant(t, c, namespace+p+"odd", value)
			holding.reads(c, p, value)
			require.NoError(t, c.Put(t.Context(), p+"odd", []byte(value)))
			require.Equal(t, value, storedBytes(t, c, namespace+p+"odd"))
		}
		requireConditionsOfBothPlaces(t, c, o, root)
	}
}

// requireConditionsOfBothPlaces holds that the server compares the values that
// are stored as they are, and this side those that are not.
func requireConditionsOfBothPlaces(t *testing.T, c *etcd.Client, o *observer, root string) {
	t.Helper()
	ctx, plain, hidden := t.Context(), root+"cas", prefix(t)+"hidden"
	require.NoError(t, c.BulkPut(ctx, map[string][]byte{plain: []byte("1"), hidden: []byte("1")}))
	var ok bool
	var err error
	swap := func(key, old, new string) []string {
		return o.during(func() { ok, err = c.CompareAndSwap(ctx, key, []byte(old), []byte(new)) })
	}
	require.Equal(t, []string{"Txn"}, swap(plain, "1", "2"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []string{"Txn"}, swap(plain, "1", "3"))
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, []string{"Txn", "Txn"}, swap(hidden, "1", "2"))
	require.NoError(t, err)
	require.True(t, ok)

	for want, values := range map[bool][2]string{true: {"2", "2"}, false: {"2", "1"}} {
		res, err := c.Txn().If(etcd.Value(plain).Equal([]byte(values[0])), etcd.Value(hidden).Equal([]byte(values[1]))).
			Then(etcd.OpPut(plain, []byte("3")), etcd.OpPut(hidden, []byte("3"))).
			Else(etcd.OpGet(plain), etcd.OpGet(hidden)).Commit(ctx)
		require.NoError(t, err)
		require.Equal(t, want, res.Succeeded)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{plain: []byte("2"), hidden: []byte("2")}))
	}
	// From one place to the other, and back.
	moved := root + "moved"
	require.Empty(t, o.during(func() { require.ErrorIs(t, c.MoveKey(ctx, hidden, moved), etcd.ErrInvalidArgument) }))
	require.NoError(t, c.MoveKey(ctx, hidden, moved, etcd.WithPlaintextTarget()))
	requireValue(t, c, moved, "2")
	require.NoError(t, c.MoveKey(ctx, moved, hidden))
	requireValue(t, c, hidden, "2")
}

func TestValueOfAnotherContextDoesNotOpen(t *testing.T) {
	t.Parallel()
	holding := &policy{t: t}
	defer holding.done()
	srv := server(t)
	in := func(context string) *etcd.Client {
		return client(t, config(srv).WithEncryption(testKey).WithAssociatedContext([]byte(context)))
	}
	production, test, none := in("production"), in("test"), in("")
	p := prefix(t)
	require.NoError(t, production.BulkPut(t.Context(), map[string][]byte{p + "odd": []byte(secret), p + "good": []byte("good")}))
	holding.reads(production, p, secret)
	holding.reads(in("production"), p, secret)
	for _, other := range []*etcd.Client{test, none} {
		require.NoError(t, other.Put(t.Context(), p+"good", []byte("good")))
		holding.refuses(other, p, etcd.ErrDecrypt)
	}
	require.NoError(t, none.Put(t.Context(), p+"odd", []byte(secret)))
	require.NoError(t, production.Put(t.Context(), p+"good", []byte("good")))
	holding.refuses(production, p, etcd.ErrDecrypt)
}

// policies are further ways in which values can be stored, beside modes.
var policies = map[string]func(t *testing.T, c *etcd.Config) *etcd.Config{
	"plaintext reads": func(_ *testing.T, c *etcd.Config) *etcd.Config {
		return c.WithEncryption(testKey).WithPlaintextReads("")
	},
	"plaintext writes": func(_ *testing.T, c *etcd.Config) *etcd.Config {
		return c.WithEncryption(testKey).WithPlaintextWrites("")
	},
	"compressed plaintext writes": func(_ *testing.T, c *etcd.Config) *etcd.Config {
		return c.WithEncryption(testKey).WithPlaintextWrites("").WithCompression(1024)
	},
	"unencrypted": func(_ *testing.T, c *etcd.Config) *etcd.Config {
		return c.WithEncryption(testKey).WithCompression(1024).WithUnencryptedPrefixes("/")
	},
	"legacy": func(_ *testing.T, c *etcd.Config) *etcd.Config {
		return c.WithEncryption(testKey).WithLegacyKey(legacyKey, "")
	},
	"context": func(_ *testing.T, c *etcd.Config) *etcd.Config {
		return c.WithEncryption(testKey).WithAssociatedContext([]byte("context"))
	},
	"plain GCM": func(t *testing.T, c *etcd.Config) *etcd.Config {
		return c.WithKeyring(ringOf(t, keyNumber(t, 1).WithPlainGCM()))
	},
	"AEAD": func(_ *testing.T, c *etcd.Config) *etcd.Config {
		return c.WithAEAD(etcd.KeyID{1}, newTestAEAD("a"))
	},
}

func TestValueThatBeginsWithTheMagicSurvives(t *testing.T) {
	t.Parallel()
	holding := &policy{t: t}
	defer holding.done()
	all := map[string]func(t *testing.T, c *etcd.Config) *etcd.Config{}
	for _, m := range modes {
		all[m.name] = func(_ *testing.T, c *etcd.Config) *etcd.Config { return m.set(c) }
	}
	for name, set := range policies {
		all[name] = set
	}
	srv := server(t)
	for name, set := range all {
		c := client(t, set(t, config(srv)))
		for i, value := range []string{
			magic, magic + "\x01", magic + "\x01\x00\x00\x00", magic + "\x01\x00\x00\x00framed", magic + "\x01\x02\x00\x00" + large,
			magic + large, magic + "\x02", strings.Repeat(magic, 1000),
		} {
			p := fmt.Sprint(prefix(t), name, i, "/")
			require.NoError(t, c.BulkPut(t.Context(), map[string][]byte{p + "odd": []byte(value), p + "good": []byte("good")}), name)
			holding.reads(c, p, value)
			swapped, err := c.CompareAndSwap(t.Context(), p+"odd", []byte(value), []byte(value+"!"))
			require.NoError(t, err, name)
			require.True(t, swapped, name)
			holding.reads(c, p, value+"!")
		}
	}
}
