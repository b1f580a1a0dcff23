package integration

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestEveryoneOpensAStoredRingCreatedOnce(t *testing.T) {
	t.Parallel()
	srv := server(t)
	first := created(t, srv)
	require.Equal(t, "1 sealed, 1 opened", first.calls())
	require.True(t, strings.HasPrefix(storedBytes(t, first.client, ringKey), magic+"\x01\x80\x00\x00etcd-keyring/v1\x00"))
	before := storedBytes(t, first.client, ringKey)
	again, err := etcd.CreateKeyring(t.Context(), first.client, ringKey, first.outer)
	require.ErrorIs(t, err, etcd.ErrKeyExists)
	require.False(t, etcd.MaybeApplied(err))
	require.Nil(t, again)
	require.Equal(t, before, storedBytes(t, first.client, ringKey))

	writer := client(t, config(srv).WithKeyring(first.Keyring()))
	require.NoError(t, writer.Put(t.Context(), "/k", []byte("v")))
	for range 3 {
		p := opened(t, srv.Endpoint())
		require.Equal(t, first.primary(t), p.primary(t))
		require.Equal(t, first.Keyring().IDs(), p.Keyring().IDs())
		value, err := client(t, config(srv).WithKeyring(p.Keyring())).Get(t.Context(), "/k")
		require.NoError(t, err)
		require.Equal(t, "v", string(value))
		require.Equal(t, "0 sealed, 1 opened", p.calls())
		require.NoError(t, p.Err())
	}
}

func TestRotationOfAStoredRingReachesEveryProcess(t *testing.T) {
	t.Parallel()
	srv := server(t)
	leader := created(t, srv)
	others := []*process{opened(t, srv.Endpoint()), opened(t, srv.Endpoint()), opened(t, srv.Endpoint())}
	ctx, old := t.Context(), leader.primary(t)
	requireAll := func(opens int, ids ...etcd.KeyID) {
		t.Helper()
		require.ElementsMatch(t, ids, leader.Keyring().IDs())
		for _, p := range others {
			p.comes(t, leader.Keyring().String())
			require.Equal(t, fmt.Sprintf("0 sealed, %d opened", opens), p.calls(), "one call for each change")
			require.NoError(t, p.Err())
		}
	}

	added, err := leader.AddKey(ctx)
	require.NoError(t, err)
	require.Equal(t, old, leader.primary(t))
	requireAll(2, old, added)
	require.NoError(t, leader.Promote(ctx, added))
	require.Equal(t, added, leader.primary(t))
	requireAll(3, old, added)
	require.NoError(t, leader.RetireKey(ctx, old, etcd.WithRetireAge(0)))
	requireAll(4, added)
	// It opens what it is about to store, and once more where the watch is faster than
	// the answer.
	require.Equal(t, int64(4), leader.outer.encrypts.Load())
	require.GreaterOrEqual(t, leader.outer.decrypts.Load(), int64(4))
	require.LessOrEqual(t, leader.outer.decrypts.Load(), int64(4+3))

	// Any process may change it.
	more, err := others[0].AddKey(ctx)
	require.NoError(t, err)
	leader.comes(t, others[0].Keyring().String())
	require.ElementsMatch(t, []etcd.KeyID{added, more}, leader.Keyring().IDs())
}

func TestStoredRingRefusesChangesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	p := created(t, server(t))
	ctx, before := t.Context(), p.Keyring().String()
	stored := storedBytes(t, p.client, ringKey)
	require.ErrorIs(t, p.Promote(ctx, etcd.KeyID{1}), etcd.ErrUnknownKey)
	require.ErrorIs(t, p.RetireKey(ctx, etcd.KeyID{1}), etcd.ErrUnknownKey)
	require.ErrorIs(t, p.RetireKey(ctx, p.primary(t)), etcd.ErrInvalidArgument)
	p.outer.down.Store(true)
	_, err := p.AddKey(ctx)
	require.ErrorIs(t, err, etcd.ErrKeyUnavailable)
	require.Equal(t, stored, storedBytes(t, p.client, ringKey))
	require.Equal(t, before, p.Keyring().String())

	_, err = p.client.Delete(ctx, ringKey)
	require.NoError(t, err)
	_, err = p.AddKey(ctx)
	require.ErrorIs(t, err, etcd.ErrKeyNotFound)
}

// Each adds keys while the others do: none is lost, in none of the rings.
func TestStoredRingIsChangedByManyAtOnce(t *testing.T) {
	t.Parallel()
	srv := server(t)
	all := []*process{created(t, srv)}
	for range 3 {
		all = append(all, opened(t, srv.Endpoint()))
	}
	want := []etcd.KeyID{all[0].primary(t)}
	var mu sync.Mutex
	var changing sync.WaitGroup
	for _, p := range all {
		changing.Go(func() {
			for range 4 {
				id, err := p.AddKey(within(t, busyTimeout))
				if !assert.NoError(t, err) {
					return
				}
				mu.Lock()
				want = append(want, id)
				mu.Unlock()
				if !assert.Contains(t, p.Keyring().IDs(), id, "what was changed is in use") {
					return
				}
			}
		})
	}
	changing.Wait()
	fresh := opened(t, srv.Endpoint())
	require.ElementsMatch(t, want, fresh.Keyring().IDs())
	for _, p := range all {
		p.comes(t, fresh.Keyring().String())
	}
}

// The answer to a change comes after the news of a later one.
func TestStoredRingNeverGoesBackToEarlierChanges(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	slow, fast := created(t, srv), opened(t, srv.Endpoint())
	ctx := t.Context()
	var begun atomic.Bool
	o.around(nil, func(req any) {
		if !conditional(req) || begun.Swap(true) {
			return
		}
		_, err := fast.AddKey(ctx)
		assert.NoError(t, err)
		assert.Eventually(t, func() bool { return len(slow.Keyring().IDs()) == 3 }, patience, time.Millisecond)
	})
	_, err := slow.AddKey(ctx)
	require.NoError(t, err)
	require.Len(t, slow.Keyring().IDs(), 3)
	require.Equal(t, fast.Keyring().String(), slow.Keyring().String())
}

// badRings are records that are no ring; nothing is taken from them.
func badRings(t *testing.T, p *process) map[string]struct {
	stored string
	want   error
} {
	t.Helper()
	good := storedBytes(t, p.client, ringKey)
	stranger := client(t, etcd.DefaultConfig().WithEndpoints(p.client.Endpoints()...))
	other, err := etcd.CreateKeyring(t.Context(), stranger, "/other", newTestAEAD("outer"))
	require.NoError(t, err)
	require.NoError(t, other.Close())
	planted := `{"version":1,"primary":"` + keyNumber(t, 1).ID().Hex() + `","keys":[{"secret":"` +
		base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "key number %010d", 1)) + `"}]}`
	return map[string]struct {
		stored string
		want   error
	}{
		"flipped":            {flip(good, len(good)-1), etcd.ErrDecrypt},
		"cut":                {good[:len(good)-1], etcd.ErrDecrypt},
		"empty":              {"", etcd.ErrNotEncrypted},
		"moved":              {storedBytes(t, p.client, "/other"), etcd.ErrDecrypt},
		"planted":            {planted, etcd.ErrNotEncrypted},
		"planted in a frame": {magic + "\x01\x00\x00\x00" + planted, etcd.ErrNotEncrypted},
		"of a later version": {magic + "\x02\x80\x00\x00" + good[8:], etcd.ErrUnsupportedFormat},
		"of another key":     {good[:8] + strings.Repeat("k", 16) + good[24:], etcd.ErrUnknownKey},
	}
}

func TestStoredRingThatDoesNotOpenIsRefused(t *testing.T) {
	t.Parallel()
	srv := server(t)
	p := created(t, srv)
	before, good := p.Keyring().String(), storedBytes(t, p.client, ringKey)
	open := func(outer etcd.AEAD) error {
		s, err := etcd.OpenKeyring(t.Context(), p.client, ringKey, outer)
		require.Nil(t, s)
		return err
	}
	requireUndecodable(t, open(newTestAEAD("another outer key")), ringKey, etcd.ErrDecrypt, "another outer key")
	for name, bad := range badRings(t, p) {
		plant(t, p.client, ringKey, bad.stored)
		requireUndecodable(t, open(newTestAEAD("outer")), ringKey, bad.want, name)
		p.fails(t, bad.want)
		require.Equal(t, before, p.Keyring().String(), "the last keys stay in use")

		plant(t, p.client, ringKey, good)
		require.Eventually(t, func() bool { return p.Err() == nil }, patience, time.Millisecond, name)
		require.Equal(t, before, p.Keyring().String(), name)
	}
}

func TestDeletedRingStaysInUseUntilItReturns(t *testing.T) {
	t.Parallel()
	srv := server(t)
	p := created(t, srv)
	before := p.Keyring().String()
	_, err := p.client.Delete(t.Context(), ringKey)
	require.NoError(t, err)
	p.fails(t, etcd.ErrKeyNotFound)
	require.Equal(t, before, p.Keyring().String())
	_, err = etcd.OpenKeyring(t.Context(), p.client, ringKey, p.outer)
	require.ErrorIs(t, err, etcd.ErrKeyNotFound)

	require.NoError(t, p.Restore(t.Context()))
	require.NoError(t, p.Err())
	require.Equal(t, before, opened(t, srv.Endpoint()).Keyring().String())
}

// A change that comes while the outer key's service is down is not forgotten.
func TestRingIsTakenOnceItsOuterKeyReturns(t *testing.T) {
	t.Parallel()
	srv := server(t)
	leader, p := created(t, srv), opened(t, srv.Endpoint())
	p.outer.down.Store(true)
	_, err := leader.AddKey(t.Context())
	require.NoError(t, err)
	p.fails(t, etcd.ErrKeyUnavailable)
	p.outer.down.Store(false)
	p.comes(t, leader.Keyring().String())
	require.Eventually(t, func() bool { return p.Err() == nil }, patience, time.Millisecond)
}

func TestStoredRingIsFollowedThroughCompaction(t *testing.T) {
	t.Parallel()
	srv := server(t)
	leader := created(t, srv)
	compact(t, leader.client)
	// The last change of the ring is older than all that the store still knows.
	p := opened(t, srv.Endpoint())
	for range 3 {
		_, err := leader.AddKey(t.Context())
		require.NoError(t, err)
		p.comes(t, leader.Keyring().String())
		compact(t, leader.client)
	}
	require.NoError(t, p.Err())
	require.Equal(t, "0 sealed, 4 opened", p.calls())
	require.Zero(t, p.logged.n.Load())
}

func TestStoredRingIsFollowedThroughARestart(t *testing.T) {
	t.Parallel()
	srv := server(t)
	leader, p := created(t, srv), opened(t, srv.Endpoint())
	require.NoError(t, srv.Restart())
	compact(t, leader.client)
	added, err := leader.AddKey(t.Context())
	require.NoError(t, err)
	require.NoError(t, leader.Promote(t.Context(), added))
	p.comes(t, leader.Keyring().String())
	require.Equal(t, added, p.primary(t))
}

// What was missed is read where the history is gone.
func TestStoredRingIsReadAnewAfterACompaction(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	leader, p := created(t, srv), opened(t, proxy.Endpoint())
	first := leader.primary(t)
	proxy.Refuse()
	proxy.Cut()
	added, err := leader.AddKey(t.Context())
	require.NoError(t, err)
	require.NoError(t, leader.Promote(t.Context(), added))
	compact(t, leader.client)
	proxy.Heal()
	p.comes(t, leader.Keyring().String())
	require.Eventually(t, func() bool { return p.Err() == nil }, patience, time.Millisecond)
	require.Equal(t, added, p.primary(t))
	require.NoError(t, leader.RetireKey(t.Context(), first, etcd.WithRetireAge(0)))
	p.comes(t, leader.Keyring().String())
	require.Equal(t, "0 sealed, 3 opened", p.calls(), "it is not read again and again")
	require.Equal(t, int64(1), p.logged.n.Load())
}

func TestStoredRingNeedsAClientStoringItUnchanged(t *testing.T) {
	t.Parallel()
	srv := server(t)
	outer := newTestAEAD("outer")
	for name, cfg := range map[string]*etcd.Config{
		"encrypting":  config(srv).WithEncryption(testKey),
		"elsewhere":   config(srv).WithEncryption(testKey).WithUnencryptedPrefixes("/else"),
		"compressing": config(srv).WithCompression(1024),
		"migrating":   config(srv).WithEncryption(testKey).WithPlaintextWrites(""),
	} {
		c := client(t, cfg)
		for _, open := range []func(context.Context, *etcd.Client, string, etcd.AEAD, ...etcd.KeyringOption) (*etcd.StoredKeyring, error){etcd.OpenKeyring, etcd.CreateKeyring} {
			s, err := open(t.Context(), c, ringKey, outer)
			require.ErrorIs(t, err, etcd.ErrInvalidArgument, name)
			require.Nil(t, s)
		}
	}
	plain := client(t, config(srv))
	for want, args := range map[error]struct {
		client *etcd.Client
		key    string
		outer  etcd.AEAD
	}{
		etcd.ErrInvalidArgument: {nil, ringKey, outer},
		etcd.ErrEmptyKey:        {plain, "", outer},
		etcd.ErrInvalidKey:      {plain, ringKey, nil},
	} {
		_, err := etcd.CreateKeyring(t.Context(), args.client, args.key, args.outer)
		require.ErrorIs(t, err, want)
		_, err = etcd.OpenKeyring(t.Context(), args.client, args.key, args.outer)
		require.ErrorIs(t, err, want)
	}

	// All of these mean one key of the server.
	var rings []string
	for key, cfg := range map[string]*etcd.Config{
		"/space/ring": config(srv),
		"ring":        config(srv).WithNamespace("/space/"),
		"e/ring":      config(srv).WithNamespace("/spac").WithEncryption(testKey).WithUnencryptedPrefixes("e/"),
	} {
		c := client(t, cfg)
		open := etcd.OpenKeyring
		if len(rings) == 0 {
			open = etcd.CreateKeyring
		}
		s, err := open(t.Context(), c, key, outer)
		require.NoError(t, err, key)
		rings = append(rings, s.Keyring().String())
		require.NoError(t, s.Close())
	}
	require.Equal(t, []string{rings[0], rings[0], rings[0]}, rings)
}

func TestClosedRingKeepsItsKeysAndFollowsNothing(t *testing.T) {
	t.Parallel()
	srv := server(t)
	leader, p, witness := created(t, srv), opened(t, srv.Endpoint()), opened(t, srv.Endpoint())
	before := p.Keyring().String()
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	_, err := leader.AddKey(t.Context())
	require.NoError(t, err)
	witness.comes(t, leader.Keyring().String())
	require.Equal(t, before, p.Keyring().String())
	require.Equal(t, "0 sealed, 1 opened", p.calls())
	require.NoError(t, p.Err())
	require.NoError(t, client(t, config(srv).WithKeyring(p.Keyring())).Put(t.Context(), "/k", nil))

	// A closed client ends it too.
	require.NoError(t, witness.client.Close())
	require.NoError(t, witness.Close())
	_, err = etcd.OpenKeyring(t.Context(), witness.client, ringKey, witness.outer)
	require.ErrorIs(t, err, etcd.ErrClosed)
	_, err = witness.AddKey(t.Context())
	require.ErrorIs(t, err, etcd.ErrClosed)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = etcd.OpenKeyring(ended, leader.client, ringKey, leader.outer)
	require.ErrorIs(t, err, context.Canceled)
	_, err = etcd.CreateKeyring(ended, leader.client, "/another", leader.outer)
	require.ErrorIs(t, err, context.Canceled)
}

// remembers is an AEAD that keeps what it opened.
type remembers struct {
	*testAEAD
	plaintext []byte
}

func (r *remembers) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	plaintext, err := r.testAEAD.Decrypt(ciphertext, associatedData)
	r.plaintext = append([]byte(nil), plaintext...)
	return plaintext, err
}

func TestStoredRingPrintsNoneOfItsKeys(t *testing.T) {
	t.Parallel()
	srv := server(t)
	created(t, srv)
	outer := &remembers{testAEAD: newTestAEAD("outer")}
	c := client(t, config(srv))
	s, err := etcd.OpenKeyring(t.Context(), c, ringKey, outer)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	var ring struct{ Keys []struct{ Secret []byte } }
	require.NoError(t, json.Unmarshal(outer.plaintext, &ring))
	require.Len(t, ring.Keys, 1)
	secret := ring.Keys[0].Secret

	_, missing := etcd.OpenKeyring(t.Context(), c, "/missing", outer)
	_, wrong := etcd.OpenKeyring(t.Context(), c, ringKey, newTestAEAD("another"))
	require.NoError(t, c.Close()) // what is printed must not change meanwhile
	var all strings.Builder
	for _, v := range []any{
		s, reflect.ValueOf(s).Elem().Interface(), s.Keyring(), struct{ a, B any }{s, s}, missing, wrong,
	} {
		for _, verb := range "vsqdxXtbcoOUeEfFgGT" {
			for _, flag := range []string{"", "+", "#", " "} {
				fmt.Fprintf(&all, "%"+flag+string(verb)+"\n", v)
			}
		}
		slog.New(slog.NewTextHandler(&all, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&all, nil)).Info("x", "v", v)
		asJSON, err := json.Marshal(v)
		if err == nil {
			all.Write(asJSON)
		}
	}
	for _, form := range []string{
		string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)), base64.StdEncoding.EncodeToString(secret),
		strings.Trim(fmt.Sprint(secret), "[]"), strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"), "}"),
	} {
		require.NotContains(t, all.String(), form)
	}
}
