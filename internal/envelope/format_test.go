package envelope_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// The published example of the format.
const (
	examplePRK   = "86236a8c4d1249a1f5b3f3a2d0748db4e464595341e6315d59a01d806a17825b"
	exampleID    = "ec0f867b581764e28f3ffc18a2f3d5ab"
	exampleKx    = "891e2a5f1da9b64150628dd73156cd5eddb3dd40952c7aad2e01ea79d6e5e1cf"
	exampleAD    = "ff65637601020000ec0f867b581764e28f3ffc18a2f3d5ab000000002f6170702f636f6e666967"
	exampleValue = "ff65637601020000ec0f867b581764e28f3ffc18a2f3d5ab" +
		"4142434445464748494a4b4c4d4e4f505152535455565758" +
		"c09886f2ff9764c62d51571cca3ce16d8c629766419b4421efc0"
	exampleKey   = "/app/config"
	exampleNonce = "ABCDEFGHIJKLMNOPQRSTUVWX"
	exampleText  = "hello etcd"
)

func TestKeysAreDerivedAsPublished(t *testing.T) {
	t.Parallel()
	prk, err := hkdf.Extract(sha256.New, []byte(readmeKey), []byte("etcd-value-encryption/v1"))
	require.NoError(t, err)
	require.Equal(t, examplePRK, hex.EncodeToString(prk))

	id, kx, kg, err := envelope.DerivedKeys([]byte(readmeKey))
	require.NoError(t, err)
	require.Equal(t, exampleID, hex.EncodeToString(id[:]))
	require.Equal(t, exampleKx, hex.EncodeToString(kx))
	want, err := hkdf.Expand(sha256.New, prk, "AES-256-GCM", 32)
	require.NoError(t, err)
	require.Equal(t, want, kg)
	require.Equal(t, id, newKey(t, readmeKey).ID())
}

func TestPublishedExampleIsSealedAndOpened(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	stored, err := c.SealFixed(gcmSeal, []byte(readmeKey), envelope.XAES256GCM, exampleKey, 0, []byte(exampleText), []byte(exampleNonce))
	require.NoError(t, err)
	require.Equal(t, exampleValue, hex.EncodeToString(stored))
	require.Equal(t, exampleAD, hex.EncodeToString(c.AssociatedData(stored[:envelope.HeaderSize], exampleKey)))

	got, err := c.Open(bg, newRing(t, newKey(t, readmeKey)), exampleKey, stored, nil)
	require.NoError(t, err)
	require.Equal(t, exampleText, string(got))
}

func TestAssociatedDataHoldsTheContextAndItsLength(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{Context: []byte("prod/eu-west-1")})
	head := unhex(t, exampleValue)[:envelope.HeaderSize]
	want := slices.Concat(head, []byte{0, 0, 0, 14}, []byte("prod/eu-west-1"), []byte("/k"))
	require.Equal(t, want, c.AssociatedData(head, "/k"))
}

func TestCodecKeepsItsOwnContext(t *testing.T) {
	t.Parallel()
	context := []byte("prod")
	c := envelope.NewCodec(envelope.Params{Context: context})
	before := c.AssociatedData(nil, "")
	clear(context)
	require.Equal(t, before, c.AssociatedData(nil, ""))
}

// TestSealedValuesOpenByTheBook takes what Seal writes apart with nothing but the specification.
func TestSealedValuesOpenByTheBook(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{Context: []byte("ctx")})
	_, kx, kg, err := envelope.DerivedKeys([]byte(readmeKey))
	require.NoError(t, err)
	for _, size := range []int{0, 1, 15, 16, 17, 1000} {
		value := text(size)
		for suite, k := range keysBySuite(t) {
			if suite == envelope.ExternalAEAD {
				continue // its body is the AEAD's own
			}
			stored, err := c.Seal(bg, k, "/k", value)
			require.NoError(t, err)
			require.Len(t, stored, size+envelope.Overhead(suite))
			ad := c.AssociatedData(stored[:24], "/k")
			key, nonce, body := kg, stored[24:36], stored[36:]
			if suite == envelope.XAES256GCM {
				key, err = envelope.Subkey(kx, stored[24:36])
				require.NoError(t, err)
				nonce, body = stored[36:48], stored[48:]
			}
			require.Equal(t, body, gcmSeal(key, nonce, value, ad), "%s, %d bytes", suite, size)
		}
	}
}

func TestOverheadIsThatOfTheFormat(t *testing.T) {
	t.Parallel()
	require.Equal(t, 64, envelope.Overhead(envelope.XAES256GCM))
	require.Equal(t, 52, envelope.Overhead(envelope.AES256GCM))
	require.Equal(t, 24, envelope.Overhead(envelope.ExternalAEAD))
	require.Equal(t, 8, envelope.Overhead(envelope.NoSuite))
	require.Zero(t, envelope.Overhead(0x03))
}

func TestSuitesHaveNames(t *testing.T) {
	t.Parallel()
	for suite, name := range map[envelope.Suite]string{
		0x00: "none", 0x01: "AES-256-GCM", 0x02: "XAES-256-GCM", 0x80: "external AEAD", 0x03: "suite 0x03",
	} {
		require.Equal(t, name, suite.String())
	}
}

// TestHeaderIsCheckedInTheFormatsOrder gives each value more than one fault: the first in the order decides.
func TestHeaderIsCheckedInTheFormatsOrder(t *testing.T) {
	t.Parallel()
	unknown := bytes.Repeat([]byte{0xAA}, 16)
	body := make([]byte, 40)
	for _, tc := range []struct {
		name   string
		stored []byte
		want   error
	}{
		{"nothing", nil, envelope.ErrNotEncrypted},
		{"part of the magic", []byte("\xFFec"), envelope.ErrNotEncrypted},
		{"another magic, unknown version", []byte("\xFFecw\x02\x02\x00\x00"), envelope.ErrNotEncrypted},
		{"magic alone", []byte("\xFFecv"), envelope.ErrCorrupt},
		{"unknown version, cut", []byte("\xFFecv\x02"), envelope.ErrUnsupportedFormat},
		{"known version, cut", []byte("\xFFecv\x01"), envelope.ErrCorrupt},
		{"unknown suite, cut", []byte("\xFFecv\x01\x03"), envelope.ErrUnsupportedFormat},
		{"unknown flag, cut", []byte("\xFFecv\x01\x02\x10"), envelope.ErrUnsupportedFormat},
		{"unknown compression, cut", []byte("\xFFecv\x01\x02\x02"), envelope.ErrUnsupportedFormat},
		{"reserved byte set, too short for the suite", []byte("\xFFecv\x01\x02\x00\x01"), envelope.ErrUnsupportedFormat},
		{"header without a key id", []byte("\xFFecv\x01\x80\x00\x00"), envelope.ErrCorrupt},
		{"unknown key, too short", slices.Concat([]byte("\xFFecv\x01\x02\x00\x00"), unknown, body[:39]), envelope.ErrCorrupt},
		{"unknown key, bad tag", slices.Concat([]byte("\xFFecv\x01\x02\x00\x00"), unknown, body), envelope.ErrUnknownKey},
		{"known key, bad tag", slices.Concat([]byte("\xFFecv\x01\x02\x00\x00"), unhex(t, exampleID), body), envelope.ErrDecrypt},
		{"known key, not of the external suite", slices.Concat([]byte("\xFFecv\x01\x80\x00\x00"), unhex(t, exampleID), body), envelope.ErrDecrypt},
		{"external key, not of suite 02", slices.Concat([]byte("\xFFecv\x01\x02\x00\x00"), externalID[:], body), envelope.ErrDecrypt},
		{"external key, not of suite 01", slices.Concat([]byte("\xFFecv\x01\x01\x00\x00"), externalID[:], body), envelope.ErrDecrypt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := envelope.NewCodec(envelope.Params{}).Open(bg, fullRing(t), "/k", slices.Clone(tc.stored), nil)
			require.ErrorIs(t, err, tc.want)
			require.Nil(t, got)
		})
	}
}

func TestStoredValueTellsItsSuiteAndKeyID(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{CompressMin: 64})
	for suite, k := range keysBySuite(t) {
		stored, err := c.Seal(bg, k, "/k", []byte("v"))
		require.NoError(t, err)
		require.True(t, envelope.IsEnvelope(stored))
		got, err := envelope.SuiteOf(stored)
		require.NoError(t, err)
		require.Equal(t, suite, got)
		id, ok := envelope.KeyIDOf(stored)
		require.True(t, ok)
		require.Equal(t, k.ID(), id)
	}
	framed, err := c.Compress(text(1000))
	require.NoError(t, err)
	suite, err := envelope.SuiteOf(framed)
	require.NoError(t, err)
	require.Equal(t, envelope.NoSuite, suite)
	_, ok := envelope.KeyIDOf(framed)
	require.False(t, ok)

	_, err = envelope.SuiteOf([]byte("plain"))
	require.ErrorIs(t, err, envelope.ErrNotEncrypted)
	_, ok = envelope.KeyIDOf([]byte("plain"))
	require.False(t, ok)
	_, err = envelope.SuiteOf([]byte("\xFFecv\x02\x02\x00\x00"))
	require.ErrorIs(t, err, envelope.ErrUnsupportedFormat)
}
