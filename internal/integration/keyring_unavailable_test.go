package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestNoReadPathTakesAnOutageForDamage(t *testing.T) {
	t.Parallel()
	srv := server(t)
	id, aead := etcd.KeyID([]byte("id of the AEAD  ")), newTestAEAD("a")
	external, err := etcd.NewAEADKey(id, aead)
	require.NoError(t, err)
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	down := errors.New("vault is sealed")
	for name, tc := range map[string]struct {
		writer *etcd.EncryptionKey
		reader *etcd.Config
		cause  error
	}{
		"AEAD": {external, config(srv).WithKeyring(ringOf(t, a, external)), errAEADDown},
		"provider": {b, config(srv).WithKeyring(ringOf(t, a)).WithKeyProvider(&provider{
			key: func(context.Context, etcd.KeyID) (*etcd.EncryptionKey, error) { return nil, down },
		}), down},
	} {
		p := prefix(t) + name + "/"
		aead.down.Store(false)
		require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, a))).Put(t.Context(), p+"good", []byte("good")))
		require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, tc.writer))).Put(t.Context(), p+"odd", []byte(secret)))
		aead.down.Store(true)
		c := client(t, tc.reader.WithTimeout(busyTimeout))
		for path, read := range readPaths {
			got, err := read.read(t.Context(), c, p, p+"odd")
			requireUnavailable(t, err, tc.cause, name+" "+path)
			require.NotContains(t, got, p+"odd", name+" "+path)
		}
		// One that can't be decoded doesn't hide that the other can be, later.
		plant(t, client(t, config(srv)), p+"bad", planted)
		_, err := c.ListWithValues(t.Context(), p)
		requireUnavailable(t, err, tc.cause, name+" beside a bad one")
		_, err = c.BulkGet(t.Context(), []string{p + "bad", p + "odd"})
		requireUnavailable(t, err, tc.cause, name+" beside a bad one")
		res, err := c.Txn().Then(etcd.OpGet(p+"bad"), etcd.OpGet(p+"odd")).Commit(t.Context())
		require.NoError(t, err)
		requireUnavailable(t, res.Err(), tc.cause, name+" beside a bad one")
		_, err = c.CompareAndSwap(t.Context(), p+"odd", []byte("x"), []byte("y"))
		requireUnavailable(t, err, tc.cause, name+" compare and swap")
		requireUnavailable(t, c.MoveKey(t.Context(), p+"odd", p+"moved"), tc.cause, name+" move")
	}
}

func TestPassesStopAtAnOutageAndLoseNothing(t *testing.T) {
	t.Parallel()
	srv, empty := server(t), server(t)
	id, aead := etcd.KeyID([]byte("id of the AEAD  ")), newTestAEAD("a")
	external, err := etcd.NewAEADKey(id, aead)
	require.NoError(t, err)
	a := keyNumber(t, 1)
	require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, external))).Put(t.Context(), "/k", []byte("v")))
	before := storedBytes(t, client(t, config(srv)), "/k")
	var file bytes.Buffer
	_, err = client(t, config(srv)).Export(t.Context(), &file, "")
	require.NoError(t, err)
	aead.down.Store(true)

	c := client(t, config(srv).WithKeyring(ringOf(t, a, external)))
	report, err := c.Reencrypt(t.Context(), "")
	requireUnavailable(t, err, errAEADDown, "reencrypt")
	require.Zero(t, report.Undecodable)
	require.Equal(t, before, storedBytes(t, c, "/k"))

	var decrypted bytes.Buffer
	exported, err := c.Export(t.Context(), &decrypted, "", etcd.WithDecryptedValues(), etcd.WithUndecodableAsStored())
	requireUnavailable(t, err, errAEADDown, "export")
	require.Zero(t, exported.Undecodable)

	to := client(t, config(empty).WithKeyring(ringOf(t, a, external)))
	imported, err := to.Import(t.Context(), bytes.NewReader(file.Bytes()), etcd.WithoutUndecodable())
	requireUnavailable(t, err, errAEADDown, "import")
	require.Zero(t, imported.LeftOut)
	aead.down.Store(false)
	imported, err = to.Import(t.Context(), bytes.NewReader(file.Bytes()), etcd.WithoutUndecodable())
	require.NoError(t, err)
	require.Equal(t, int64(1), imported.Written)
	report, err = c.Reencrypt(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, int64(1), report.Rewritten)
}

func TestImportSkipsNoValueWithAKnownKey(t *testing.T) {
	t.Parallel()
	from, to := server(t), server(t)
	var keys []*etcd.EncryptionKey
	for n := range 50 {
		keys = append(keys, keyNumber(t, n+1))
		w := client(t, config(from).WithKeyring(ringOf(t, keys[n])))
		require.NoError(t, w.Put(t.Context(), fmt.Sprintf("/tenant/%02d", n), []byte("v")))
	}
	var file bytes.Buffer
	_, err := client(t, config(from)).Export(t.Context(), &file, "")
	require.NoError(t, err)
	c := client(t, config(to).WithKeyring(ringOf(t, keyNumber(t, 0))).WithKeyProvider(providerOf(keys...)))
	report, err := c.Import(t.Context(), bytes.NewReader(file.Bytes()), etcd.WithoutUndecodable())
	require.NoError(t, err)
	require.Equal(t, int64(50), report.Written)
	require.Zero(t, report.LeftOut)

	d := client(t, config(to).WithKeyring(ringOf(t, keyNumber(t, 0))).WithKeyProvider(providerOf(keys...)))
	values, err := d.ListWithValues(t.Context(), "/tenant/")
	require.NoError(t, err)
	require.Len(t, values, 50)
}

// hangingAEAD heeds no context.
type hangingAEAD struct {
	*testAEAD
	hangs   atomic.Bool
	release chan struct{}
}

func newHangingAEAD(t *testing.T) *hangingAEAD {
	t.Helper()
	h := &hangingAEAD{testAEAD: newTestAEAD("a"), release: make(chan struct{})}
	t.Cleanup(func() { close(h.release) })
	return h
}

func (h *hangingAEAD) wait() {
	if h.hangs.Load() {
		<-h.release
	}
}

func (h *hangingAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	h.wait()
	return h.testAEAD.Encrypt(plaintext, associatedData)
}

func (h *hangingAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	h.wait()
	return h.testAEAD.Decrypt(ciphertext, associatedData)
}

func TestHangingAEADDelaysNoCallPastItsDeadline(t *testing.T) {
	t.Parallel()
	srv := server(t)
	aead := newHangingAEAD(t)
	const short = 300 * time.Millisecond
	c, err := etcd.NewClient(config(srv).WithAEAD(etcd.KeyID{1}, aead).WithTimeout(busyTimeout))
	require.NoError(t, err)
	kvs := map[string][]byte{}
	for i := range 50 {
		kvs[fmt.Sprint("/list/", i)] = []byte("v")
	}
	require.NoError(t, c.BulkPut(t.Context(), kvs))
	require.NoError(t, c.Put(t.Context(), "/k", []byte("v")))
	watch := c.WatchPrefix(t.Context(), "/list/", etcd.WithRevision(2))
	aead.hangs.Store(true)
	for name, call := range map[string]func(context.Context) error{
		"put":  func(ctx context.Context) error { return c.Put(ctx, "/k", []byte("w")) },
		"get":  func(ctx context.Context) error { _, err := c.Get(ctx, "/k"); return err },
		"bulk": func(ctx context.Context) error { return c.BulkPut(ctx, kvs) },
		"list": func(ctx context.Context) error { _, err := c.ListWithValues(ctx, "/list/"); return err },
		"guarded": func(ctx context.Context) error {
			return c.Put(ctx, "/k", []byte("w"), etcd.WithGuard())
		},
	} {
		var spent time.Duration
		err := failsWith(t, etcd.ErrKeyUnavailable, func() error {
			began := time.Now()
			defer func() { spent = time.Since(began) }()
			return call(within(t, short))
		})
		requireUnavailable(t, err, context.DeadlineExceeded, name)
		require.Less(t, spent, short+busyTimeout/2, name)
	}
	for range watch { // it comes through, with its value or without
		break
	}
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	require.NoError(t, next(t, closed))
}

func TestHangingOuterKeyDelaysNoRingCall(t *testing.T) {
	t.Parallel()
	srv := server(t)
	aead := newHangingAEAD(t)
	c, err := etcd.NewClient(config(srv).WithTimeout(busyTimeout))
	require.NoError(t, err)
	ring, err := etcd.CreateKeyring(t.Context(), c, "/ring", aead)
	require.NoError(t, err)
	follower, err := etcd.OpenKeyring(t.Context(), client(t, config(srv)), "/ring", aead)
	require.NoError(t, err)
	_, err = ring.AddKey(t.Context())
	require.NoError(t, err)
	aead.hangs.Store(true)
	_ = c.Put(t.Context(), "/ring", []byte(storedBytes(t, c, "/ring"))) // both have to open it again

	short := func() context.Context { return within(t, 300*time.Millisecond) }
	err = failsWith(t, etcd.ErrKeyUnavailable, func() error { return second(etcd.OpenKeyring(short(), c, "/ring", aead)) })
	requireUnavailable(t, err, context.DeadlineExceeded, "open")
	err = failsWith(t, etcd.ErrKeyUnavailable, func() error { return second(ring.AddKey(short())) })
	requireUnavailable(t, err, context.DeadlineExceeded, "add key")

	closed := make(chan error, 2)
	go func() { closed <- follower.Close(); closed <- c.Close() }()
	require.NoError(t, next(t, closed))
	require.NoError(t, next(t, closed))
}

func TestPlantedKeysDelayNoEventForLong(t *testing.T) {
	t.Parallel()
	srv := server(t)
	own := keyNumber(t, 1)
	for name, answer := range map[string]func(context.Context, etcd.KeyID) (*etcd.EncryptionKey, error){
		"slow": func(ctx context.Context, id etcd.KeyID) (*etcd.EncryptionKey, error) {
			select {
			case <-time.After(500 * time.Millisecond):
				return nil, fmt.Errorf("%w: not in the vault", etcd.ErrUnknownKey)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		"hanging": func(ctx context.Context, id etcd.KeyID) (*etcd.EncryptionKey, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		p := prefix(t) + name + "/"
		c := client(t, config(srv).WithKeyring(ringOf(t, own)).WithKeyProvider(&provider{key: answer}).WithTimeout(busyTimeout))
		watch := c.WatchPrefix(within(t, 2*busyTimeout), p) // with a deadline, that is no bound here
		for n := range 200 {
			plant(t, c, fmt.Sprint(p, "planted/", n), fmt.Sprintf("%s\x01\x02\x00\x00planted %08d%48d", magic, n, n))
		}
		require.NoError(t, c.Put(t.Context(), p+"genuine", []byte("v")))
		began := time.Now()
		for n, ev := range events(t, watch, 201) {
			if n < 200 {
				require.Error(t, ev.Err)
				continue
			}
			require.NoError(t, ev.Err)
			require.Equal(t, "v", string(ev.Kv.Value))
		}
		require.Less(t, time.Since(began), busyTimeout/2, "%s: a provider's answer for each would take 100 s", name)
	}
}

func TestListWithUnknownKeysTakesOneDeadline(t *testing.T) {
	t.Parallel()
	srv := server(t)
	p, own := prefix(t), keyNumber(t, 1)
	c := client(t, config(srv).WithKeyring(ringOf(t, own)).WithTimeout(500*time.Millisecond).WithKeyProvider(&provider{
		key: func(ctx context.Context, _ etcd.KeyID) (*etcd.EncryptionKey, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}))
	plain := client(t, config(srv))
	for n := range 40 {
		plant(t, plain, fmt.Sprint(p, "planted/", n), fmt.Sprintf("%s\x01\x02\x00\x00planted %08d%48d", magic, n, n))
	}
	require.NoError(t, client(t, config(srv).WithKeyring(ringOf(t, own))).Put(t.Context(), p+"good", []byte("v")))
	var got map[string][]byte
	var spent time.Duration
	err := failsWith(t, etcd.ErrKeyUnavailable, func() (err error) {
		began := time.Now()
		got, err = c.ListWithValues(context.Background(), p)
		spent = time.Since(began)
		return err
	})
	requireUnavailable(t, err, context.DeadlineExceeded, "list")
	require.Equal(t, map[string][]byte{p + "good": []byte("v")}, got)
	require.Less(t, spent, 10*time.Second, "one after the other they would take 20 s")
}

func TestCompressedValuesOfOneCallAreBounded(t *testing.T) {
	t.Parallel()
	srv := server(t)
	p := prefix(t)
	c := client(t, config(srv).WithCompression(1024).WithTimeout(busyTimeout))
	large := bytes.Repeat([]byte{0}, 16<<20)
	w := client(t, config(srv).WithCompression(1024).WithMaxRequestBytes(64<<20).WithTimeout(busyTimeout))
	for n := range 8 {
		require.NoError(t, w.Put(t.Context(), fmt.Sprint(p, n), large)) // a few kilobytes each
	}
	require.NoError(t, w.Put(t.Context(), p+"z", bytes.Repeat([]byte("{\"name\": \"value\"}, "), 10)))
	got, err := c.ListWithValues(t.Context(), p)
	require.ErrorIs(t, err, etcd.ErrValueTooLarge)
	require.Len(t, got, 4+1, "64 MiB of them, and what takes none of that")
	for n := range 8 {
		value, err := c.Get(t.Context(), fmt.Sprint(p, n))
		require.NoError(t, err, "each by itself")
		require.Len(t, value, len(large))
	}
}

// contextAEAD is an AEAD in the shape of Tink's AEADWithContext. It notes that a call
// has a deadline.
type contextAEAD struct {
	aead     *testAEAD
	hangs    atomic.Bool
	deadline atomic.Int64
}

func (a *contextAEAD) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := a.wait(ctx); err != nil {
		return nil, err
	}
	return a.aead.Encrypt(plaintext, associatedData)
}

func (a *contextAEAD) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := a.wait(ctx); err != nil {
		return nil, err
	}
	return a.aead.Decrypt(ciphertext, associatedData)
}

func (a *contextAEAD) wait(ctx context.Context) error {
	if _, ok := ctx.Deadline(); ok {
		a.deadline.Add(1)
	}
	if a.hangs.Load() {
		<-ctx.Done()
		return fmt.Errorf("kms: %w", ctx.Err())
	}
	return nil
}

func TestAEADWithContextGetsTheCallsDeadline(t *testing.T) {
	t.Parallel()
	srv := server(t)
	aead := &contextAEAD{aead: newTestAEAD("a")}
	c := client(t, config(srv).WithAEAD(etcd.KeyID{1}, etcd.FromAEADWithContext(aead)).WithTimeout(busyTimeout))
	require.NoError(t, c.Put(context.Background(), "/k", []byte("v")))
	value, err := c.Get(context.Background(), "/k")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))
	require.Equal(t, aead.aead.encrypts.Load()+aead.aead.decrypts.Load(), aead.deadline.Load(), "with and without one of the caller's")
	// The same values open by the methods without a context.
	plain := client(t, config(srv).WithAEAD(etcd.KeyID{1}, aead.aead))
	_, err = plain.Get(t.Context(), "/k")
	require.NoError(t, err)

	aead.hangs.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { _, err := c.Get(ctx, "/k"); got <- err }()
	cancel()
	err = next(t, got)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, etcd.IsRetryable(err), "who cancelled knows")

	_, err = etcd.NewAEADKey(etcd.KeyID{1}, etcd.FromAEADWithContext(nil))
	require.ErrorIs(t, err, etcd.ErrInvalidKey)
}
