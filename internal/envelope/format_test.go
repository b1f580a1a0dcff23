package envelope_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

func TestOpensTheExampleOfTheFormat(t *testing.T) {
	k, err := envelope.NewKey([]byte("32-byte-encryption-key-here!!!"))
	require.NoError(t, err)
	id := k.ID()
	require.Equal(t, "ec0f867b581764e28f3ffc18a2f3d5ab", hex.EncodeToString(id[:]))
	r, err := envelope.NewRing(k)
	require.NoError(t, err)
	stored, err := hex.DecodeString("ff65637601020000ec0f867b581764e28f3ffc18a2f3d5ab4142434445464748494a4b4c4d4e4f505152535455565758c09886f2ff9764c62d51571cca3ce16d8c629766419b4421efc0")
	require.NoError(t, err)
	got, err := envelope.NewCodec(envelope.Params{}).Open(r, "/app/config", stored)
	require.NoError(t, err)
	require.Equal(t, "hello etcd", string(got))
}
