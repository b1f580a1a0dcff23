package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestEveryReadPathAsksTheKeyProvider(t *testing.T) {
	t.Parallel()
	srv := server(t)
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	p := prefix(t)
	want := map[string]string{p + "good": "of a", p + "odd": "of b"}
	require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, a))).Put(t.Context(), p+"good", []byte("of a")))
	require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, b))).Put(t.Context(), p+"odd", []byte("of b")))
	for name, path := range readPaths {
		known, ring := providerOf(b), ringOf(t, a)
		c := client(t, config(srv).WithKeyring(ring).WithKeyProvider(known))
		for range 3 {
			got, err := path.read(t.Context(), c, p, p+"odd")
			require.NoError(t, err, name)
			require.Equal(t, "of b", got[p+"odd"], name)
			if !path.single {
				require.Equal(t, want, got, name)
			}
		}
		require.Equal(t, int64(1), known.calls.Load(), name)
		require.Len(t, ring.IDs(), 2)
		primary, _ := ring.Primary()
		require.Equal(t, a.ID(), primary)
	}
	for name, write := range map[string]func(c *etcd.Client) (bool, error){
		"CompareAndSwap": func(c *etcd.Client) (bool, error) {
			return c.CompareAndSwap(t.Context(), p+"odd", []byte("of b"), []byte("of b"))
		},
		"Update": func(c *etcd.Client) (bool, error) {
			return true, c.Update(t.Context(), p+"odd", func(old []byte) ([]byte, error) { return old, nil })
		},
		"MoveKey": func(c *etcd.Client) (bool, error) { return true, c.MoveKey(t.Context(), p+"odd", p+"moved") },
	} {
		require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, b))).Put(t.Context(), p+"odd", []byte("of b")))
		known := providerOf(b)
		ok, err := write(client(t, config(srv).WithEncryption(testKey).WithKeyProvider(known)))
		require.NoError(t, err, name)
		require.True(t, ok, name)
		require.Equal(t, int64(1), known.calls.Load(), name)
	}
}

func TestManyReadersOfAListAskProviderOnce(t *testing.T) {
	t.Parallel()
	srv := server(t)
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	p, kvs := prefix(t), map[string][]byte{}
	for i := range 500 {
		kvs[fmt.Sprint(p, i)] = []byte("v")
	}
	require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, b))).BulkPut(t.Context(), kvs))
	known := providerOf(b)
	c := client(t, config(srv).WithKeyring(ringOf(t, a)).WithKeyProvider(known).WithTimeout(busyTimeout))
	watch := c.WatchPrefix(within(t, busyTimeout), p, etcd.WithRevision(2))
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() {
			got, err := c.ListWithValues(t.Context(), p)
			assert.NoError(t, err)
			assert.Len(t, got, len(kvs))
		})
	}
	readers.Wait()
	for _, ev := range events(t, watch, len(kvs)) {
		require.NoError(t, ev.Err)
		require.Equal(t, "v", string(ev.Kv.Value))
	}
	require.Equal(t, int64(1), known.calls.Load())
}

func TestProviderThatFailsHidesNoOtherValue(t *testing.T) {
	t.Parallel()
	srv := server(t)
	p, down := prefix(t), errors.New("vault is sealed")
	c := client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 1))).WithKeyProvider(&provider{
		key: func(context.Context, etcd.KeyID) (*etcd.EncryptionKey, error) { return nil, down },
	}))
	require.NoError(t, c.Put(t.Context(), p+"good", []byte("good")))
	for _, name := range []string{"odd", "odder"} {
		require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 2)))).Put(t.Context(), p+name, []byte("v")))
	}
	got, err := c.ListWithValues(t.Context(), p)
	require.Equal(t, map[string][]byte{p + "good": []byte("good")}, got)
	requireUnavailable(t, err, down, "list")

	watch := events(t, c.WatchPrefix(within(t, busyTimeout), p, etcd.WithRevision(2)), 3)
	require.Equal(t, "good", string(watch[0].Kv.Value))
	for _, ev := range watch[1:] {
		require.Nil(t, ev.Kv.Value)
		requireUnavailable(t, ev.Err, down, "watch")
	}
	_, err = c.Delete(t.Context(), p+"odd")
	require.NoError(t, err, "a delete needs no value")
}

// A provider that hangs holds up the value that waits for it, and neither for
// ever nor beyond the client.
func TestHangingProviderIsLeftByTimeoutOrClose(t *testing.T) {
	t.Parallel()
	srv := server(t)
	p := prefix(t)
	require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 2)))).Put(t.Context(), p, []byte("v")))
	asked := make(chan struct{}, 10)
	hanging := func() *etcd.Config {
		return config(srv).WithKeyring(ringOf(t, keyNumber(t, 1))).WithKeyProvider(&provider{
			key: func(ctx context.Context, _ etcd.KeyID) (*etcd.EncryptionKey, error) {
				asked <- struct{}{}
				<-ctx.Done()
				return nil, ctx.Err()
			},
		})
	}
	short := client(t, hanging().WithTimeout(200*time.Millisecond))
	err := failsWith(t, etcd.ErrKeyUnavailable, func() error { return second(short.Get(context.Background(), p)) })
	requireUnavailable(t, err, context.DeadlineExceeded, "get")
	next(t, asked)

	c, err := etcd.NewClient(hanging().WithTimeout(busyTimeout))
	require.NoError(t, err)
	watch := c.Watch(t.Context(), p, etcd.WithRevision(2))
	next(t, asked)
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	require.NoError(t, next(t, closed))
	for r := range watch {
		require.ErrorIs(t, r.Err(), etcd.ErrClosed)
	}
}

func TestEveryPathGoesThroughTheApplicationsAEAD(t *testing.T) {
	t.Parallel()
	holding := &policy{t: t}
	defer holding.done()
	srv := server(t)
	aead, id := newTestAEAD("a"), etcd.KeyID([]byte("id of the AEAD  "))
	c := client(t, config(srv).WithAEAD(id, aead))
	p := prefix(t)
	for name, write := range writePaths {
		require.NoError(t, write(t.Context(), c, p+name), name)
		resp, err := client(t, config(srv)).GetPrefix(t.Context(), p+name, 0)
		require.NoError(t, err)
		require.NotEmpty(t, resp, name)
		for _, kv := range resp {
			require.True(t, strings.HasPrefix(string(kv.Value), magic+"\x01\x80\x00\x00"+string(id[:])), name)
			require.NotContains(t, string(kv.Value), secret, name)
		}
	}
	p += "read/"
	require.NoError(t, c.BulkPut(t.Context(), map[string][]byte{p + "good": []byte("good"), p + "odd": []byte(secret)}))
	holding.reads(c, p, secret)
	for other, want := range map[*etcd.Client]error{
		client(t, config(srv).WithAEAD(etcd.KeyID{1}, aead)):                                  etcd.ErrUnknownKey,
		client(t, config(srv).WithAEAD(id, newTestAEAD("b"))):                                 etcd.ErrDecrypt,
		client(t, config(srv).WithAEAD(id, aead).WithAssociatedContext([]byte("c"))):          etcd.ErrDecrypt,
		client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 1))).WithPlaintextReads("")): etcd.ErrUnknownKey,
	} {
		_, err := other.Get(t.Context(), p+"odd")
		require.ErrorIs(t, err, want)
	}
	plant(t, c, p+"odd", storedBytes(t, c, p+"good"))
	holding.refuses(c, p, etcd.ErrDecrypt)
}

func TestAEADThatFailsSendsNothing(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	aead := newTestAEAD("a")
	c := client(t, config(srv).WithAEAD(etcd.KeyID{1}, aead))
	require.NoError(t, c.Put(t.Context(), "/k", []byte("v")))
	aead.down.Store(true)
	require.Empty(t, o.during(func() {
		err := c.Put(t.Context(), "/k", []byte("w"))
		requireUnavailable(t, err, errAEADDown, "put")
	}))
	_, err := c.Get(t.Context(), "/k")
	requireUnavailable(t, err, errAEADDown, "get")
	aead.down.Store(false)
	value, err := c.Get(t.Context(), "/k")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))
}

func TestClientsShareARingThatChangesUnderThem(t *testing.T) {
	t.Parallel()
	srv := server(t)
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	ring := ringOf(t, a)
	clients := []*etcd.Client{client(t, config(srv).WithKeyring(ring)), client(t, config(srv).WithKeyring(ring))}
	p := prefix(t)
	keyOf := func(key string) string { return storedBytes(t, clients[0], key)[8:24] }
	idOf := func(k *etcd.EncryptionKey) string { id := k.ID(); return string(id[:]) }
	require.NoError(t, clients[0].Put(t.Context(), p+"a", []byte("a")))
	require.Equal(t, idOf(a), keyOf(p+"a"))
	require.NoError(t, ring.Replace(b, a))
	for i, c := range clients {
		require.NoError(t, c.Put(t.Context(), p+"b", []byte("b")))
		require.Equal(t, idOf(b), keyOf(p+"b"))
		got, err := clients[1-i].ListWithValues(t.Context(), p)
		require.NoError(t, err)
		require.Equal(t, map[string][]byte{p + "a": []byte("a"), p + "b": []byte("b")}, got)
	}
	require.NoError(t, ring.Replace(b))
	for _, c := range clients {
		_, err := c.Get(t.Context(), p+"a")
		requireUndecodable(t, err, p+"a", etcd.ErrUnknownKey, "get")
	}
}

func TestKeyThatWritesPlainGCMReadsBothSuites(t *testing.T) {
	t.Parallel()
	srv := server(t)
	key := keyNumber(t, 1)
	for suite, pair := range map[string][2]*etcd.EncryptionKey{"\x01": {key.WithPlainGCM(), key}, "\x02": {key, key.WithPlainGCM()}} {
		writer, reader := client(t, config(srv).WithKeyring(ringOf(t, pair[0]))), client(t, config(srv).WithKeyring(ringOf(t, pair[1])))
		require.NoError(t, writer.Put(t.Context(), "/k", []byte("v")))
		require.Equal(t, magic+"\x01"+suite, storedBytes(t, writer, "/k")[:6])
		value, err := reader.Get(t.Context(), "/k")
		require.NoError(t, err)
		require.Equal(t, "v", string(value))
		report, err := reader.Reencrypt(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, int64(1), report.Stale, "the key is the same, and its suite is not")
	}
}
