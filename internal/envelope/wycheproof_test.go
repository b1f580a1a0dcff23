package envelope_test

import (
	"bytes"
	"crypto/aes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// testdata/wycheproof.json holds those vectors of Project Wycheproof (https://github.com/c2sp/wycheproof, Apache-2.0)
// that fit the format: AES-GCM and AES-CMAC with keys of 256 bits, the usual nonce and a whole tag, and HKDF with
// SHA-256. The project's Go module would bring 109 MB into the test binary and its own go line to everybody, so the
// numbers are extracted:
//
//	go mod download -json github.com/c2sp/wycheproof@v0.0.0-20260902155932-3fa63dd0344a   (prints Dir)
//	go test ./internal/envelope -run TestWycheproof -wycheproof Dir/testvectors_v1
var wycheproofDir = flag.String("wycheproof", "", "extract testdata/wycheproof.json from this directory")

var extraction sync.Once // the tests run in parallel

const wycheproofFile = "testdata/wycheproof.json"

type wycheproof struct {
	GCM  []wycheproofTest `json:"aes_gcm"`
	CMAC []wycheproofTest `json:"aes_cmac"`
	HKDF []wycheproofTest `json:"hkdf_sha256"`
}

// wycheproofTest has the union of the fields of the three kinds, byte strings in hexadecimal.
type wycheproofTest struct {
	ID     int    `json:"tcId"`
	Result string `json:"result"`

	Key string `json:"key,omitempty"`
	IV  string `json:"iv,omitempty"`
	AAD string `json:"aad,omitempty"`
	Msg string `json:"msg,omitempty"`
	CT  string `json:"ct,omitempty"`
	Tag string `json:"tag,omitempty"`

	IKM  string `json:"ikm,omitempty"`
	Salt string `json:"salt,omitempty"`
	Info string `json:"info,omitempty"`
	Size int    `json:"size,omitempty"`
	OKM  string `json:"okm,omitempty"`
}

func (w wycheproofTest) valid() bool { return w.Result == "valid" }

// TestWycheproofAESGCM opens each vector as a value of suite 01 is opened.
func TestWycheproofAESGCM(t *testing.T) {
	t.Parallel()
	tests := readWycheproof(t).GCM
	require.Len(t, tests, 66)
	for _, w := range tests {
		key, iv, aad, msg := unhex(t, w.Key), unhex(t, w.IV), unhex(t, w.AAD), unhex(t, w.Msg)
		sealed := unhex(t, w.CT+w.Tag)
		got, err := envelope.OpenGCM(key, slices.Concat(iv, sealed), aad)
		require.Equal(t, w.valid(), bytes.Equal(sealed, gcmSeal(key, iv, msg, aad)), "%d", w.ID)
		if !w.valid() {
			require.ErrorIs(t, err, envelope.ErrDecrypt, "%d", w.ID)
			continue
		}
		require.NoError(t, err, "%d", w.ID)
		require.True(t, bytes.Equal(msg, got), "%d", w.ID)
	}
}

// TestWycheproofCMAC checks the subkey from which XAES-256-GCM derives, with the rest of CMAC built around it.
func TestWycheproofCMAC(t *testing.T) {
	t.Parallel()
	tests := readWycheproof(t).CMAC
	require.Len(t, tests, 102)
	for _, w := range tests {
		tag := cmac(t, unhex(t, w.Key), unhex(t, w.Msg))
		require.Equal(t, w.valid(), bytes.Equal(unhex(t, w.Tag), tag), "%d", w.ID)
	}
}

func cmac(t *testing.T, key, msg []byte) []byte {
	t.Helper()
	k1, k2, err := envelope.CMACSubkeys(key)
	require.NoError(t, err)
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	mask := k1
	if len(msg) == 0 || len(msg)%16 != 0 {
		mask = k2
		msg = padded(append(slices.Clone(msg), 0x80))
	}
	state := make([]byte, 16)
	for i := 0; i < len(msg); i += 16 {
		for j := range state {
			state[j] ^= msg[i+j]
			if i == len(msg)-16 {
				state[j] ^= mask[j]
			}
		}
		block.Encrypt(state, state)
	}
	return state
}

// TestWycheproofHKDF checks the function all keys go through, in the two steps in which they do.
func TestWycheproofHKDF(t *testing.T) {
	t.Parallel()
	tests := readWycheproof(t).HKDF
	require.Len(t, tests, 86)
	for _, w := range tests {
		prk, err := hkdf.Extract(sha256.New, unhex(t, w.IKM), unhex(t, w.Salt))
		require.NoError(t, err, "%d", w.ID)
		okm, err := hkdf.Expand(sha256.New, prk, string(unhex(t, w.Info)), w.Size)
		require.Equal(t, w.valid(), err == nil, "%d", w.ID)
		require.True(t, bytes.Equal(unhex(t, w.OKM), okm), "%d", w.ID)
	}
}

func readWycheproof(t *testing.T) wycheproof {
	t.Helper()
	if *wycheproofDir != "" {
		extraction.Do(func() { extractWycheproof(t) })
	}
	encoded, err := os.ReadFile(wycheproofFile)
	require.NoError(t, err)
	var w wycheproof
	require.NoError(t, json.Unmarshal(encoded, &w))
	return w
}

func extractWycheproof(t *testing.T) {
	t.Helper()
	encoded, err := json.MarshalIndent(wycheproof{
		GCM: wycheproofGroups(t, "aes_gcm_test.json", func(g wycheproofGroup) bool {
			return g.KeySize == 256 && g.IVSize == 96 && g.TagSize == 128
		}),
		CMAC: wycheproofGroups(t, "aes_cmac_test.json", func(g wycheproofGroup) bool { return g.KeySize == 256 && g.TagSize == 128 }),
		HKDF: wycheproofGroups(t, "hkdf_sha256_test.json", func(wycheproofGroup) bool { return true }),
	}, "", " ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(wycheproofFile, append(encoded, '\n'), 0o644))
}

type wycheproofGroup struct {
	KeySize, IVSize, TagSize int
	Tests                    []wycheproofTest
}

func wycheproofGroups(t *testing.T, file string, fits func(wycheproofGroup) bool) []wycheproofTest {
	t.Helper()
	encoded, err := os.ReadFile(filepath.Join(*wycheproofDir, file))
	require.NoError(t, err)
	var whole struct{ TestGroups []wycheproofGroup }
	require.NoError(t, json.Unmarshal(encoded, &whole))
	var tests []wycheproofTest
	for _, group := range whole.TestGroups {
		if fits(group) {
			tests = append(tests, group.Tests...)
		}
	}
	return tests
}
