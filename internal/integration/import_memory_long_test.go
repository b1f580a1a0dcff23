//go:build long

package integration

import "testing"

func TestLongExportStreamsIntoAnImportInBoundedMemory(t *testing.T) {
	requireCopyNeedsLittleMemory(t, 100_000, 64<<20)
}
