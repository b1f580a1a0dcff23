package integration

import (
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a server takes by default is 1.5 MiB, its own header and the key counted.
const (
	largestValue  = 1_572_764
	tooLargeValue = 1_572_864
)

// largeValue can't be compressed.
func largeValue(t *testing.T, n int) []byte {
	t.Helper()
	value := make([]byte, n)
	_, err := rand.Read(value)
	require.NoError(t, err)
	return value
}
