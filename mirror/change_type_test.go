package mirror_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/mirror"
)

func TestChangeTypesPrintAsWords(t *testing.T) {
	t.Parallel()
	require.Equal(t, "[ended created updated deleted]",
		fmt.Sprint([]mirror.ChangeType{mirror.Ended, mirror.Created, mirror.Updated, mirror.Deleted}))
	require.Equal(t, mirror.Ended, mirror.Change{}.Type)
}

func TestZeroSnapshotsAreEmpty(t *testing.T) {
	t.Parallel()
	var s mirror.Snapshot
	_, ok := s.Get("k")
	require.False(t, ok)
	for range s.All() {
		require.Fail(t, "not empty")
	}
	require.Zero(t, s.Len())
	require.Zero(t, s.Revision())
	var typed mirror.TypedSnapshot[string]
	_, ok = typed.Get("k")
	require.False(t, ok)
	for range typed.All() {
		require.Fail(t, "not empty")
	}
	require.Zero(t, typed.Len())
	require.Zero(t, typed.Revision())
}
