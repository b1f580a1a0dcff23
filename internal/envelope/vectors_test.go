package envelope_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// testdata/value_v1.json is for readers in other languages. Its test writes it anew with
//
//	go test ./internal/envelope -run TestPublishedVectors -update
//
// which must never change a case that is already there: version 1 is fixed.
var update = flag.Bool("update", false, "write testdata/value_v1.json")

const vectorsFile = "testdata/value_v1.json"

type vectors struct {
	Comment     []string     `json:"comment"`
	Keys        []vectorKey  `json:"keys"`
	InvalidKeys []invalidKey `json:"invalid_keys"`
	Cases       []vectorCase `json:"cases"`
}

type vectorKey struct {
	Name     string `json:"name"`
	Material string `json:"material"`
	ID       string `json:"id"`
	XAESKey  string `json:"xaes_256_gcm_key,omitempty"`
	GCMKey   string `json:"aes_256_gcm_key,omitempty"`
	External bool   `json:"external,omitempty"`
}

type invalidKey struct {
	Comment  string `json:"comment"`
	Material string `json:"material"`
	Error    string `json:"error"`
}

type vectorCase struct {
	Comment string `json:"comment"`
	Keys    string `json:"keys,omitempty"` // names of the keys in the ring, separated by spaces
	EtcdKey string `json:"etcd_key"`
	Context string `json:"context,omitempty"`
	MaxSize int    `json:"max_size,omitempty"`
	Stored  string `json:"stored"`
	Value   string `json:"value"`
	Error   string `json:"error,omitempty"`
}

var errorsByName = map[string]error{
	"ErrNotEncrypted":      envelope.ErrNotEncrypted,
	"ErrUnsupportedFormat": envelope.ErrUnsupportedFormat,
	"ErrCorrupt":           envelope.ErrCorrupt,
	"ErrUnknownKey":        envelope.ErrUnknownKey,
	"ErrDecrypt":           envelope.ErrDecrypt,
	"ErrValueTooLarge":     envelope.ErrValueTooLarge,
	"ErrInvalidKey":        envelope.ErrInvalidKey,
}

func TestPublishedVectorsAreWhatTheFormatGives(t *testing.T) {
	encoded, err := json.MarshalIndent(makeVectors(t), "", "  ")
	require.NoError(t, err)
	encoded = append(encoded, '\n')
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(vectorsFile, encoded, 0o644))
	}
	published, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	require.Equal(t, string(published), string(encoded))
}

func TestPublishedVectorsHold(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	keys := make(map[string]*envelope.Key)
	for _, k := range v.Keys {
		keys[k.Name] = k.key(t)
	}
	seen := make(map[string]bool)
	for _, tc := range v.Cases {
		seen[tc.Error] = true
		t.Run(tc.Comment, func(t *testing.T) {
			t.Parallel()
			var ring []*envelope.Key
			for _, name := range bytes.Fields([]byte(tc.Keys)) {
				ring = append(ring, keys[string(name)])
			}
			c := envelope.NewCodec(envelope.Params{Context: []byte(tc.Context), MaxSize: tc.MaxSize})
			got, err := c.Open(bg, newRing(t, nil, ring...), tc.EtcdKey, unhex(t, tc.Stored), nil)
			require.ErrorIs(t, err, errorsByName[tc.Error])
			require.Equal(t, tc.Value, hex.EncodeToString(got))
		})
	}
	for _, k := range v.InvalidKeys {
		seen[k.Error] = true
		_, err := envelope.NewKey(unhex(t, k.Material))
		require.ErrorIs(t, err, errorsByName[k.Error], k.Comment)
	}
	for name := range errorsByName {
		require.True(t, seen[name], "no vector for %s", name)
	}
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	published, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	var v vectors
	require.NoError(t, json.Unmarshal(published, &v))
	return v
}

func (k vectorKey) key(t *testing.T) *envelope.Key {
	t.Helper()
	if k.External {
		key, err := envelope.NewExternalKey(envelope.KeyID(unhex(t, k.ID)), newGCMAEAD(unhex(t, k.Material)))
		require.NoError(t, err)
		return key
	}
	key, err := envelope.NewKey(unhex(t, k.Material))
	require.NoError(t, err)
	id := key.ID()
	require.Equal(t, k.ID, hex.EncodeToString(id[:]))
	return key
}

func makeVectors(t *testing.T) vectors {
	t.Helper()
	m := newVectorMaker(t)
	v := vectors{
		Comment: []string{
			"Stored values of version 1. All byte strings but etcd_key and context are hexadecimal.",
			"A case opens to value with a ring of the named keys, or fails with error. max_size is the limit for",
			"decompressed values where it is not the default of 16 MiB.",
			"An external key stands for any AEAD; here it is AES-256-GCM under material, as nonce, ciphertext and tag.",
		},
		Keys: m.keys(),
	}
	for _, material := range []struct {
		comment string
		bytes   []byte
	}{
		{"empty", nil}, {"15 bytes", bytes.Repeat([]byte{1}, 15)}, {"all zero", make([]byte, 32)}, {"4097 bytes", bytes.Repeat([]byte{1}, 4097)},
	} {
		v.InvalidKeys = append(v.InvalidKeys, invalidKey{material.comment, hex.EncodeToString(material.bytes), "ErrInvalidKey"})
	}
	// In the order in which they were published: the nonces count.
	v.Cases = slices.Concat(m.opens(), m.refusedByHeader(), m.refusedByKey(), m.refusedByPayload(), m.easilyMissed())
	return v
}

// vectorMaker seals with nonces that count, so that the file comes out the same each time.
type vectorMaker struct {
	t     *testing.T
	nonce byte
}

func newVectorMaker(t *testing.T) *vectorMaker { return &vectorMaker{t: t} }

var (
	otherMaterial    = []byte("another key, of 34 bytes, for this")
	thirdMaterial    = []byte("the third key, of 36 bytes, for this")
	externalMaterial = bytes.Repeat([]byte{0x42}, 32)
)

func (m *vectorMaker) keys() []vectorKey {
	keys := make([]vectorKey, 0, 4)
	for _, k := range []struct {
		name     string
		material []byte
	}{{"A", []byte(readmeKey)}, {"B", otherMaterial}, {"C", thirdMaterial}} {
		id, kx, kg, err := envelope.DerivedKeys(k.material)
		require.NoError(m.t, err)
		keys = append(keys, vectorKey{
			Name: k.name, Material: hex.EncodeToString(k.material), ID: hex.EncodeToString(id[:]),
			XAESKey: hex.EncodeToString(kx), GCMKey: hex.EncodeToString(kg),
		})
	}
	return append(keys, vectorKey{
		Name: "E", Material: hex.EncodeToString(externalMaterial), ID: hex.EncodeToString(externalID[:]), External: true,
	})
}

// seal returns payload as stored at /k under key A, without a context.
func (m *vectorMaker) seal(s envelope.Suite, flags byte, payload []byte) []byte {
	return m.sealIn("", s, flags, payload)
}

func (m *vectorMaker) sealIn(context string, s envelope.Suite, flags byte, payload []byte) []byte {
	return m.sealAt("/k", []byte(readmeKey), context, s, flags, payload)
}

func (m *vectorMaker) sealAt(etcdKey string, material []byte, context string, s envelope.Suite, flags byte, payload []byte) []byte {
	m.nonce++
	size := map[envelope.Suite]int{envelope.XAES256GCM: 24, envelope.AES256GCM: 12}[s]
	nonce := bytes.Repeat([]byte{m.nonce}, size)
	c := envelope.NewCodec(envelope.Params{Context: []byte(context)})
	stored, err := c.SealFixed(gcmSeal, material, s, etcdKey, flags, payload, nonce)
	require.NoError(m.t, err)
	return stored
}

func (m *vectorMaker) sealExternal(payload []byte) []byte {
	head := slices.Concat([]byte("\xFFecv\x01\x80\x00\x00"), externalID[:])
	nonce := []byte("twelve bytes")
	ad := envelope.NewCodec(envelope.Params{}).AssociatedData(head, "/k")
	return slices.Concat(head, nonce, gcmSeal(externalMaterial, nonce, payload, ad))
}
