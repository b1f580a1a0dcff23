package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func requireValue(t *testing.T, c *etcd.Client, key, want string) {
	t.Helper()
	value, err := c.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, want, string(value))
}

// notes what an outer key is asked for.
type notes struct {
	*testAEAD
	mu   sync.Mutex
	data [][]byte
}

func (n *notes) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	n.mu.Lock()
	n.data = append(n.data, append([]byte(nil), associatedData...))
	n.mu.Unlock()
	return n.testAEAD.Encrypt(plaintext, associatedData)
}

// mutedServer returns a server whose watches say nothing while they are muted, and a
// counter of the reads of the ring.
func mutedServer(t *testing.T) (srv *etcdtest.Server, muted *atomic.Bool, reads *atomic.Int64) {
	t.Helper()
	muted, reads = &atomic.Bool{}, &atomic.Int64{}
	return server(t, etcdtest.WithGRPCServerOptions(
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(server, mutedStream{stream, muted})
		}),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if txn, ok := req.(*pb.TxnRequest); ok && len(txn.Success) == 1 && string(txn.Success[0].GetRequestRange().GetKey()) == ringKey {
				reads.Add(1)
			}
			return handler(ctx, req)
		}),
	)), muted, reads
}

const ringKey = "/keyring"

// process is what one process has of a stored ring.
type process struct {
	*etcd.StoredKeyring
	outer  *testAEAD
	client *etcd.Client
	logged *complaints
}

// overtaken returns another process, which has changed the stored ring until p has taken
// what it stores.
func overtaken(t *testing.T, srv *etcdtest.Server, p *process) *process {
	t.Helper()
	other := opened(t, srv.Endpoint())
	for other.Info().Generation <= p.Info().Generation {
		other.rotated(t)
	}
	require.Eventually(t, func() bool { return p.primary(t) == other.primary(t) }, patience, time.Millisecond)
	return other
}

// values returns a client of the process that encrypts with its ring.
func (p *process) values(t *testing.T, opts ...func(*etcd.Config)) *etcd.Client {
	t.Helper()
	cfg := etcd.DefaultConfig().WithEndpoints(p.client.Endpoints()...).WithTimeout(busyTimeout).
		WithKeyring(p.Keyring()).WithUnencryptedPrefixes(ringKey)
	for _, o := range opts {
		o(cfg)
	}
	return client(t, cfg)
}

// rotated adds a key to the ring and promotes it.
func (p *process) rotated(t *testing.T) etcd.KeyID {
	t.Helper()
	id, err := p.AddKey(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Promote(t.Context(), id))
	return id
}

// keyOf returns what the process knows of a key.
func (p *process) keyOf(t *testing.T, id etcd.KeyID) etcd.KeyInfo {
	t.Helper()
	for _, k := range p.Info().Keys {
		if k.ID == id {
			return k
		}
	}
	require.Fail(t, "the ring lacks the key")
	return etcd.KeyInfo{}
}

func (p *process) primary(t *testing.T) etcd.KeyID {
	t.Helper()
	id, ok := p.Keyring().Primary()
	require.True(t, ok)
	return id
}

// comes waits until the process has the ring that says so.
func (p *process) comes(t *testing.T, ring string) {
	t.Helper()
	require.Eventually(t, func() bool { return p.Keyring().String() == ring }, patience, time.Millisecond,
		"has not become %s", ring)
}

// fails waits until the process can't follow the ring.
func (p *process) fails(t *testing.T, want error) {
	t.Helper()
	require.Eventually(t, func() bool { return p.Err() != nil }, patience, time.Millisecond)
	require.ErrorIs(t, p.Err(), want)
}

func (p *process) calls() string {
	return fmt.Sprintf("%d sealed, %d opened", p.outer.encrypts.Load(), p.outer.decrypts.Load())
}

func newProcess(t *testing.T, endpoint string) *process {
	t.Helper()
	p := &process{outer: newTestAEAD("outer"), logged: &complaints{Handler: slog.DiscardHandler}}
	p.client = client(t, etcd.DefaultConfig().WithEndpoints(endpoint).WithLogger(slog.New(p.logged)))
	return p
}

// opened returns a process that opened the ring.
func opened(t *testing.T, endpoint string) *process {
	t.Helper()
	p := newProcess(t, endpoint)
	var err error
	p.StoredKeyring, err = etcd.OpenKeyring(t.Context(), p.client, ringKey, p.outer)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// created returns a process that created the ring.
func created(t *testing.T, srv *etcdtest.Server) *process {
	t.Helper()
	p := newProcess(t, srv.Endpoint())
	var err error
	p.StoredKeyring, err = etcd.CreateKeyring(t.Context(), p.client, ringKey, p.outer)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// provider is an [etcd.KeyProvider] of a function that counts its calls.
type provider struct {
	calls atomic.Int64
	key   func(ctx context.Context, id etcd.KeyID) (*etcd.EncryptionKey, error)
}

func (p *provider) EncryptionKey(ctx context.Context, id etcd.KeyID) (*etcd.EncryptionKey, error) {
	p.calls.Add(1)
	return p.key(ctx, id)
}

// hung is an AEAD that hangs and heeds no context.
type hung struct {
	*testAEAD
	hangs atomic.Bool
	free  chan struct{}
}

func (h *hung) wait() {
	if h.hangs.Load() {
		<-h.free
	}
}

func (h *hung) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	h.wait()
	return h.testAEAD.Encrypt(plaintext, associatedData)
}

func (h *hung) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	h.wait()
	return h.testAEAD.Decrypt(ciphertext, associatedData)
}

type mutedStream struct {
	grpc.ServerStream
	muted *atomic.Bool
}

func (s mutedStream) SendMsg(m any) error {
	if resp, ok := m.(*pb.WatchResponse); ok && s.muted.Load() && len(resp.Events) > 0 {
		return nil
	}
	return s.ServerStream.SendMsg(m)
}

// complaints is a handler that counts what is logged about keyrings.
type complaints struct {
	slog.Handler
	n atomic.Int64
}

func (c *complaints) Enabled(context.Context, slog.Level) bool { return true }

func (c *complaints) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "keyring") {
		c.n.Add(1)
	}
	return nil
}

// compact compacts the store past everything that was there, and past what a watch
// from the next revision on would need.
func compact(t *testing.T, c *etcd.Client) {
	t.Helper()
	_, err := c.Raw().Put(t.Context(), "/other", "")
	require.NoError(t, err)
	resp, err := c.Raw().Put(t.Context(), "/other", "")
	require.NoError(t, err)
	_, err = c.Raw().Compact(t.Context(), resp.Header.Revision)
	require.NoError(t, err)
}

// writesOn waits until a client writes when its ring is older than a freshness of a second,
// unless that is confirmed. A read of the ring may take longer on a busy machine.
func writesOn(t *testing.T, c *etcd.Client) {
	t.Helper()
	began := time.Now()
	require.Eventually(t, func() bool {
		return time.Since(began) > 2*time.Second && c.Put(t.Context(), "/k", []byte("value")) == nil
	}, patience, 10*time.Millisecond)
}

// providerOf returns a provider that knows these keys.
func providerOf(keys ...*etcd.EncryptionKey) *provider {
	return &provider{key: func(_ context.Context, id etcd.KeyID) (*etcd.EncryptionKey, error) {
		for _, key := range keys {
			if key.ID() == id {
				return key, nil
			}
		}
		return nil, errors.New("no such key")
	}}
}

// requireUnavailable checks the error of a call whose key could not be had.
func requireUnavailable(t *testing.T, err, cause error, what string) {
	t.Helper()
	require.ErrorIs(t, err, etcd.ErrKeyUnavailable, what)
	require.ErrorIs(t, err, cause, what)
	require.True(t, etcd.IsRetryable(err), what)
	require.False(t, etcd.MaybeApplied(err), what)
	for _, other := range []error{etcd.ErrDecrypt, etcd.ErrUnknownKey} {
		require.NotErrorIs(t, err, other, what)
	}
	var de *etcd.DecodeError
	require.NotErrorAs(t, err, &de, "%s: who skips what can't be decoded must not skip it", what)
	require.NotContains(t, err.Error(), secret, what)
}
