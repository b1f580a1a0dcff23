package envelope_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

func TestKeyMaterialOutsideTheLimitsIsRefused(t *testing.T) {
	t.Parallel()
	for name, material := range map[string][]byte{
		"nil":        nil,
		"empty":      {},
		"15 bytes":   bytes.Repeat([]byte{1}, 15),
		"4097 bytes": bytes.Repeat([]byte{1}, 4097),
		"all zero":   make([]byte, 32),
	} {
		k, err := envelope.NewKey(material)
		require.ErrorIs(t, err, envelope.ErrInvalidKey, name)
		require.Nil(t, k, name)
	}
	for _, size := range []int{16, 30, 32, 4096} {
		_, err := envelope.NewKey(bytes.Repeat([]byte{1}, size))
		require.NoError(t, err, size)
	}
	_, err := envelope.NewKey(append(make([]byte, 31), 1))
	require.NoError(t, err, "one byte that is not zero")
}

func TestExternalKeyNeedsAnAEAD(t *testing.T) {
	t.Parallel()
	_, err := envelope.NewExternalKey(externalID, nil)
	require.ErrorIs(t, err, envelope.ErrInvalidKey)
}

func TestOverwritingItsMaterialLeavesAKeyUnchanged(t *testing.T) {
	t.Parallel()
	material := []byte(readmeKey)
	k, err := envelope.NewKey(material)
	require.NoError(t, err)
	clear(material)
	got, err := envelope.NewCodec(envelope.Params{}).Open(bg, newRing(t, k), exampleKey, unhex(t, exampleValue), nil)
	require.NoError(t, err)
	require.Equal(t, exampleText, string(got))
}

func TestKeyOfEitherSuiteReadsBoth(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	plain := newKey(t, readmeKey)
	require.Equal(t, envelope.XAES256GCM, plain.Suite())
	gcm := plain.WithSuite(envelope.AES256GCM)
	for _, writer := range []*envelope.Key{plain, gcm} {
		for _, reader := range []*envelope.Key{plain, gcm} {
			stored, err := c.Seal(bg, writer, "/k", []byte("v"))
			require.NoError(t, err)
			suite, err := envelope.SuiteOf(stored)
			require.NoError(t, err)
			require.Equal(t, writer.Suite(), suite)
			got, err := c.Open(bg, newRing(t, reader), "/k", stored, nil)
			require.NoError(t, err)
			require.Equal(t, "v", string(got))
		}
	}
}

func TestSuiteThatAKeyCannotWriteChangesNothing(t *testing.T) {
	t.Parallel()
	for suite, k := range keysBySuite(t) {
		for _, asked := range []envelope.Suite{envelope.NoSuite, envelope.ExternalAEAD, 0x03} {
			require.Equal(t, suite, k.WithSuite(asked).Suite())
		}
	}
	external := keysBySuite(t)[envelope.ExternalAEAD]
	require.Equal(t, envelope.ExternalAEAD, external.WithSuite(envelope.AES256GCM).Suite())
}

func TestKeyIDPrintsItsFirstEightDigits(t *testing.T) {
	t.Parallel()
	id := newKey(t, readmeKey).ID()
	require.Equal(t, "ec0f867b", id.String())
	require.Equal(t, "ec0f867b", fmt.Sprint(id))
}

// recorder is a test that fails into a string: a failed comparison prints its arguments by reflection, past every
// method they have.
type recorder struct{ strings.Builder }

func (r *recorder) Errorf(format string, args ...any) { fmt.Fprintf(r, format, args...) }

func TestNoOutputOfAKeyGivesItAway(t *testing.T) {
	t.Parallel()
	k := newKey(t, readmeKey)
	ring := newRing(t, k)
	type holder struct {
		Pointer *envelope.Key
		Value   envelope.Key
		hidden  *envelope.Key
		copied  envelope.Key
	}
	shapes := []any{
		k, *k, &k,
		[]*envelope.Key{k},
		map[string]*envelope.Key{"k": k},
		holder{k, *k, k, *k},
		&holder{k, *k, k, *k}, ring, *ring, fmt.Errorf("%v", k),
	}
	for _, shape := range shapes {
		for _, out := range outputs(t, shape) {
			requireNoSecret(t, out)
		}
	}
	require.Equal(t, "envelope.Key(ec0f867b…)", k.String())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%c", "%U", "%t", "%z"} {
		require.Equal(t, k.String(), fmt.Sprintf(verb, k), verb)
		require.Equal(t, k.String(), fmt.Sprintf(verb, *k), verb)
	}
	require.Equal(t, slog.StringValue(k.String()), slog.AnyValue(k).Resolve())
	encoded, err := json.Marshal(map[string]any{"key": k})
	require.NoError(t, err)
	require.JSONEq(t, `{"key":"envelope.Key(ec0f867b…)"}`, string(encoded))
}

func outputs(t *testing.T, shape any) []string {
	t.Helper()
	var out []string
	for _, verb := range "vsqxXdboOcUteEfFgGpTw" {
		for _, flags := range []string{"", "+", "#", "+#", " ", "0", "-40.40"} {
			out = append(out, fmt.Sprintf("%"+flags+string(verb), shape))
		}
	}
	if encoded, err := json.Marshal(shape); err == nil {
		out = append(out, string(encoded))
	}
	if encoded, err := xml.Marshal(shape); err == nil {
		out = append(out, string(encoded))
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", shape, "group", slog.GroupValue(slog.Any("key", shape)))
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "key", shape)
	var failure recorder
	assert.Equal(&failure, shape, "something else")
	assert.Nil(&failure, shape)
	return append(out, log.String(), failure.String())
}

func requireNoSecret(t *testing.T, out string) {
	t.Helper()
	_, kx, kg, err := envelope.DerivedKeys([]byte(readmeKey))
	require.NoError(t, err)
	for _, secret := range [][]byte{[]byte(readmeKey), kx, kg} {
		part := secret[4:12]
		for _, form := range []string{
			string(part), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)),
			strings.Trim(fmt.Sprint(part), "[]"), strings.Trim(fmt.Sprintf("%#v", part), "[]byte{}"),
			fmt.Sprintf("% x", part), fmt.Sprintf("%q", part),
		} {
			require.NotContains(t, out, form)
		}
	}
}
