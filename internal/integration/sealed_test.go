package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/live"
	"github.com/blueprint-go/etcd/mirror"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// unencrypted returns clients that don't encrypt under a prefix, each by another reason.
func unencrypted(t *testing.T, cfg *etcd.Config, p string) map[string]*etcd.Client {
	t.Helper()
	return map[string]*etcd.Client{
		"no key":      client(t, cfg),
		"compression": client(t, cfg.WithCompression(1024)),
		"excluded":    client(t, cfg.WithEncryption(testKey).WithUnencryptedPrefixes(p)),
	}
}

// asIs is the encoding of text as it is: it takes any bytes.
type asIs struct{}

func (asIs) Marshal(text string) ([]byte, error) { return []byte(text), nil }

func (asIs) Unmarshal(data []byte) (string, error) { return string(data), nil }

// requireSealed holds that an error says of a key that its value can't be decrypted.
func requireSealed(t *testing.T, err error, key, what string) {
	t.Helper()
	bad, ok := errors.AsType[*etcd.DecodeError](err)
	require.True(t, ok, "%s: %v", what, err)
	require.Equal(t, key, bad.Key, what)
	require.ErrorIs(t, err, etcd.ErrUnknownKey, what)
}

func TestKeylessClientTakesNoCiphertextForJobs(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithEncryption(testKey))
	for name, without := range unencrypted(t, config(srv), prefix(t)) {
		text := jobqueue.WithEncoding[string](asIs{})
		q := openQueueOf[string](t, c, prefix(t)+name, text)
		push(t, q, "secret")
		bare := openQueueOf[string](t, without, q.Name(), text)
		_, err := bare.Pop(within(t, patience))
		bad, ok := errors.AsType[*jobqueue.UndecodableError](err)
		require.True(t, ok, "%s: %v", name, err)
		key := q.Name() + "\x01job/" + bad.ID
		requireSealed(t, err, key, name)
		requireSealed(t, deadOf(t, bare)[0].Err, key, name)
		require.NoError(t, q.Requeue(t.Context(), bad.ID), name)
		j := popped(t, q)
		require.Equal(t, "secret", j.Value, "as it was")
		require.NoError(t, j.Ack(t.Context()))
		// What would be taken for one is no job.
		require.ErrorIs(t, bare.Push(t.Context(), magic+" itself"), etcd.ErrEncoding, name)
		require.ErrorIs(t, second(bare.PushOps(magic)), etcd.ErrEncoding, name)
		push(t, q, magic+" itself")
		require.Equal(t, magic+" itself", popped(t, q).Value)
	}
}

func TestKeylessClientTakesNoCiphertextForValues(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx := t.Context()
	c := client(t, config(srv).WithEncryption(testKey))
	for name, without := range unencrypted(t, config(srv), prefix(t)) {
		p := prefix(t) + name + "/"
		key := p + "name"
		require.NoError(t, etcd.NewTypedWith(c, p, asIs{}).Put(ctx, "name", "secret"))
		stored, err := without.GetKV(ctx, key)
		require.NoError(t, err)
		require.Contains(t, string(stored.Value), magic, "as it is stored")

		typed := etcd.NewTypedWith(without, p, asIs{})
		_, err = typed.Get(ctx, "name")
		requireSealed(t, err, key, name)
		err = typed.Update(ctx, "name", func(string, bool) (string, bool, error) { return "overwritten", true, nil })
		requireSealed(t, err, key, name)
		require.ErrorIs(t, typed.Put(ctx, "name", magic), etcd.ErrEncoding, name)
		require.NoError(t, typed.Put(ctx, "other", "plain"), name)
		m, err := mirror.OpenTyped(ctx, typed)
		require.NoError(t, err)
		defer m.Close()
		requireSealed(t, m.Bad()["name"], key, name)
		require.Equal(t, 1, m.Len())

		type config struct{ Name, Other string }
		requireSealed(t, second(live.Open[config](ctx, without, p)), key, name)
		whole := func([]byte) (map[string]any, error) { return map[string]any{"name": "a document"}, nil }
		requireSealed(t, second(live.OpenDocument[config](ctx, without, key, live.WithUnmarshal(whole))), key, name)
		// Nor for one that comes later.
		v, err := live.Open[config](ctx, without, p+"other", live.WithDefaults(func() config { return config{} }))
		require.NoError(t, err)
		require.NoError(t, c.Put(ctx, p+"other/name", []byte("secret")))
		require.Eventually(t, func() bool { return v.Err() != nil }, patience, time.Millisecond, name)
		requireSealed(t, v.Err(), p+"other/name", name)
		v.Close()
	}
}

func TestKeylessClientFindsNoEncryptedInstances(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithEncryption(testKey))
	r := registered(t, c, "s", "a")
	defer func() { require.NoError(t, r.Close(context.WithoutCancel(t.Context()))) }()
	for name, without := range unencrypted(t, config(srv), discovery.DefaultPrefix) {
		found, err := discovery.Instances(t.Context(), without, "s")
		require.Empty(t, found)
		requireSealed(t, err, r.Key(), name)
	}
}
