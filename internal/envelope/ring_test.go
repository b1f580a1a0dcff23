package envelope_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

func TestRingReadsWithAllAndWritesWithPrimary(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	older, newer := newKey(t, "an older key of a client"), newKey(t, "a newer key of a client")
	r := newRing(t, newer, older)
	require.Same(t, newer, r.Primary())
	require.Equal(t, []envelope.KeyID{newer.ID(), older.ID()}, r.IDs())
	for _, k := range []*envelope.Key{older, newer} {
		require.Same(t, k, r.Lookup(k.ID()))
		stored, err := c.Seal(bg, k, "/k", []byte("v"))
		require.NoError(t, err)
		got, err := c.Open(bg, r, "/k", stored, nil)
		require.NoError(t, err)
		require.Equal(t, "v", string(got))
	}
	require.Nil(t, r.Lookup(envelope.KeyID{}))
}

func TestRingIDsAreTheCallers(t *testing.T) {
	t.Parallel()
	r := newRing(t, newKey(t, readmeKey))
	clear(r.IDs())
	require.Equal(t, newKey(t, readmeKey).ID(), r.IDs()[0])
}

func TestRingWithoutPrimaryOnlyReads(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	k := newKey(t, readmeKey)
	r := newRing(t, nil, k)
	require.Nil(t, r.Primary())
	stored, err := c.Seal(bg, k, "/k", []byte("v"))
	require.NoError(t, err)
	_, err = c.Open(bg, r, "/k", stored, nil)
	require.NoError(t, err)
	_, err = c.Seal(bg, r.Primary(), "/k", []byte("v"))
	require.ErrorIs(t, err, envelope.ErrInvalidKey)
}

func TestRingRefusesRepeatedIDsAndMissingKeys(t *testing.T) {
	t.Parallel()
	k := newKey(t, readmeKey)
	for name, keys := range map[string][]*envelope.Key{
		"primary again":        {k, k},
		"in another suite":     {k, k.WithSuite(envelope.AES256GCM)},
		"among the others":     {nil, k, newKey(t, readmeKey)},
		"nil among the others": {k, nil},
		"zero as primary":      {{}},
		"zero among others":    {nil, {}},
	} {
		_, err := envelope.NewRing(keys[0], keys[1:]...)
		require.ErrorIs(t, err, envelope.ErrInvalidKey, name)
	}
}

func TestNilRingHasNoKeys(t *testing.T) {
	t.Parallel()
	var r *envelope.Ring
	require.Nil(t, r.Primary())
	require.Empty(t, r.IDs())
	_, err := envelope.NewCodec(envelope.Params{}).Open(bg, r, exampleKey, unhex(t, exampleValue), nil)
	require.ErrorIs(t, err, envelope.ErrUnknownKey)
}
