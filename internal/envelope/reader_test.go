//go:build node

package envelope_test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// outcomes are what a reader made of the vectors, in their order.
type outcomes struct {
	Zstd        bool      `json:"zstd"`
	Cases       []outcome `json:"cases"`
	Strict      []outcome `json:"strict"` // with the reader's defaults
	InvalidKeys []outcome `json:"invalid_keys"`
}

type outcome struct {
	Value string `json:"value"`
	Error string `json:"error"`
}

// The reader shares nothing with this package but the description of the format.
func TestReferenceReaderReadsThePublishedVectors(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	require.NoError(t, err, "the reference reader is JavaScript")
	out, err := exec.CommandContext(t.Context(), node,
		"testdata/read_vectors.mjs", "../../docs/reader/reader.mjs", vectorsFile).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		t.Fatalf("%v: %s", err, failed.Stderr)
	}
	require.NoError(t, err)
	var got outcomes
	require.NoError(t, json.Unmarshal(out, &got))

	v := readVectors(t)
	require.Len(t, got.Cases, len(v.Cases))
	for i, tc := range v.Cases {
		want := outcome{Value: tc.Value, Error: tc.Error}
		if compressed := tc.Error == "" && unhex(t, tc.Stored)[6] == 1; compressed && !got.Zstd {
			want = outcome{Error: "ErrNoZstd"}
		}
		require.Equal(t, want, got.Cases[i], tc.Comment)
	}
	refused := 0
	require.Len(t, got.Strict, len(v.Cases))
	for i, tc := range v.Cases {
		want := got.Cases[i]
		if suite, err := envelope.SuiteOf(unhex(t, tc.Stored)); err == nil && suite == envelope.NoSuite {
			want = outcome{Error: "ErrNotEncrypted"}
			refused++
		}
		require.Equal(t, want, got.Strict[i], "%s: not encrypted is refused unless asked for", tc.Comment)
	}
	require.Positive(t, refused)
	require.Len(t, got.InvalidKeys, len(v.InvalidKeys))
	for i, k := range v.InvalidKeys {
		require.Equal(t, outcome{Error: k.Error}, got.InvalidKeys[i], k.Comment)
	}
}
