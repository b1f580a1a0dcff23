package etcd_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd"
)

func newRing(t testing.TB, primary *etcd.EncryptionKey, others ...*etcd.EncryptionKey) *etcd.Keyring {
	t.Helper()
	ring, err := etcd.NewKeyring(primary, others...)
	require.NoError(t, err)
	return ring
}

// remembering is a stub that keeps what is put, and counts the requests.
type remembering struct {
	mu       sync.Mutex
	values   map[string][]byte
	requests int
}

func (m *remembering) stub() *stub {
	m.values = map[string][]byte{}
	return &stub{
		put: func(_ context.Context, req *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.requests++
			m.values[string(req.Key)] = req.Value
			return &etcdserverpb.PutResponse{}, nil
		},
		get: func(_ context.Context, req *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.requests++
			value, ok := m.values[string(req.Key)]
			if !ok {
				return &etcdserverpb.RangeResponse{}, nil
			}
			return &etcdserverpb.RangeResponse{Count: 1, Kvs: []*mvccpb.KeyValue{{Key: req.Key, Value: value}}}, nil
		},
	}
}

func (m *remembering) client(t testing.TB, ring *etcd.Keyring) *etcd.Client {
	return stubClient(t, m.stub(), func(c *etcd.Config) { c.WithKeyring(ring) })
}

func TestRingNamesItsKeys(t *testing.T) {
	t.Parallel()
	a, b := newKey(t, "an older key of a client"), newKey(t, "a newer key of a client")
	ring := newRing(t, b, a)
	primary, ok := ring.Primary()
	require.True(t, ok)
	require.Equal(t, b.ID(), primary)
	require.ElementsMatch(t, []etcd.KeyID{a.ID(), b.ID()}, ring.IDs())
	for _, text := range []string{ring.String(), fmt.Sprintf("%v %d %#v", ring, ring, ring)} {
		require.Contains(t, text, a.ID().String())
		require.Contains(t, text, "primary "+b.ID().String())
	}
	require.Equal(t, newRing(t, a, b).IDs(), ring.IDs(), "sorted")
}

func TestRingThatOnlyReads(t *testing.T) {
	t.Parallel()
	m, key := &remembering{}, newKey(t, formatKey)
	ring := newRing(t, key)
	c := m.client(t, ring)
	require.NoError(t, c.Put(t.Context(), "k", []byte("v")))
	require.NoError(t, ring.Replace(nil, key))
	_, ok := ring.Primary()
	require.False(t, ok)
	value, err := c.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))

	before := m.requests
	for name, write := range map[string]func() error{
		"Put":     func() error { return c.Put(t.Context(), "k", []byte("w")) },
		"BulkPut": func() error { return c.BulkPut(t.Context(), map[string][]byte{"k": nil}) },
		"Txn":     func() error { _, err := c.Txn().Else(etcd.OpPut("k", nil)).Commit(t.Context()); return err },
		"CAS":     func() error { _, err := c.CompareAndSwap(t.Context(), "k", []byte("v"), nil); return err },
		"Reencrypt": func() error {
			_, err := c.Reencrypt(t.Context(), "")
			return err
		},
	} {
		err := write()
		require.ErrorIs(t, err, etcd.ErrNoPrimaryKey, name)
		require.False(t, etcd.MaybeApplied(err), name)
	}
	require.Equal(t, before, m.requests, "nothing was sent")
}

func TestRingThatOnlyWrites(t *testing.T) {
	t.Parallel()
	m, key := &remembering{}, newKey(t, formatKey)
	ring := newRing(t, key.EncryptOnly())
	require.Empty(t, ring.IDs())
	c := m.client(t, ring)
	require.NoError(t, c.Put(t.Context(), "k", []byte("v")))
	value, err := c.Get(t.Context(), "k")
	require.ErrorIs(t, err, etcd.ErrUnknownKey)
	require.Nil(t, value)

	require.NoError(t, ring.Replace(key.WithPlainGCM()))
	value, err = c.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))

	require.NoError(t, ring.Replace(key.WithPlainGCM().EncryptOnly()))
	require.NoError(t, c.Put(t.Context(), "k", []byte("v")))
	require.Equal(t, "\x01\x01", string(m.values["k"][4:6]), "both wishes count")
	_, err = c.Get(t.Context(), "k")
	require.ErrorIs(t, err, etcd.ErrUnknownKey)
}

func TestRingRefusesKeysThatMakeNone(t *testing.T) {
	t.Parallel()
	key, other := newKey(t, formatKey), newKey(t, "another key of enough bytes")
	type keys = []*etcd.EncryptionKey
	for name, row := range map[string]struct {
		keys keys
		text string
	}{
		"none":                              {keys{nil}, "no key"},
		"zero as primary":                   {keys{{}}, "zero key"},
		"zero among others":                 {keys{key, {}}, "zero key"},
		"nil among others":                  {keys{key, nil}, "zero key"},
		"primary again":                     {keys{key, key}, "twice"},
		"primary again from its secret":     {keys{key, newKey(t, formatKey)}, "twice"},
		"primary again in another suite":    {keys{key, key.WithPlainGCM()}, "twice"},
		"primary again though it may not":   {keys{key.EncryptOnly(), key}, "twice"},
		"other again":                       {keys{key, other, other}, "twice"},
		"other again without a primary":     {keys{nil, other, other}, "twice"},
		"other that may only encrypt":       {keys{key, other.EncryptOnly()}, "only encrypt"},
		"only one, and only for decryption": {keys{nil, other.EncryptOnly()}, "only encrypt"},
	} {
		ring, err := etcd.NewKeyring(row.keys[0], row.keys[1:]...)
		require.ErrorIs(t, err, etcd.ErrInvalidKey, name)
		require.ErrorContains(t, err, row.text, name)
		require.Nil(t, ring, name)

		ring = newRing(t, key, other)
		before := ring.String()
		require.ErrorIs(t, ring.Replace(row.keys[0], row.keys[1:]...), etcd.ErrInvalidKey, name)
		require.Equal(t, before, ring.String(), "as it was")
	}
}

func TestZeroRingHasNoKeys(t *testing.T) {
	t.Parallel()
	for _, ring := range []*etcd.Keyring{nil, {}} {
		_, ok := ring.Primary()
		require.False(t, ok)
		require.Empty(t, ring.IDs())
		require.Equal(t, "etcd.Keyring(primary none, reads [])", ring.String())
		_, err := etcd.NewClient(etcd.DefaultConfig().WithKeyring(ring))
		require.ErrorIs(t, err, etcd.ErrInvalidKey)
	}
	ring := &etcd.Keyring{}
	require.NoError(t, ring.Replace(newKey(t, formatKey)))
	require.NoError(t, (&etcd.Config{Keyring: ring}).Validate())
}

// Each request uses the keys of one moment: what is written can be read, whatever
// the ring is then, as long as it has both keys.
func TestRingIsReplacedUnderRequests(t *testing.T) {
	t.Parallel()
	a, b := newKey(t, "an older key of a client"), newKey(t, "a newer key of a client")
	ring, m := newRing(t, a, b), &remembering{}
	c := m.client(t, ring)
	stop := make(chan struct{})
	var replacing, using sync.WaitGroup
	for range 2 {
		replacing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				assert.NoError(t, ring.Replace(b, a))
				assert.NoError(t, ring.Replace(a, b))
			}
		})
	}
	for i := range 4 {
		using.Go(func() {
			for j := range 200 {
				key, want := fmt.Sprintf("%d/%d", i, j), strings.Repeat("x", j)
				assert.NoError(t, c.Put(t.Context(), key, []byte(want)))
				got, err := c.Get(t.Context(), key)
				assert.NoError(t, err)
				assert.Equal(t, want, string(got))
				_, ok := ring.Primary()
				assert.True(t, ok)
				assert.Len(t, ring.IDs(), 2)
				assert.NotEmpty(t, ring.String())
			}
		})
	}
	using.Wait()
	close(stop)
	replacing.Wait()
}
