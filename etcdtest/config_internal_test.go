package etcdtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Whether etcd syncs can't be seen from outside.
func TestWritesAreSyncedOnlyOnDemand(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		opts []Option
		sync bool
	}{
		{nil, false},
		{[]Option{WithFsync()}, true},
	} {
		set, err := collect(tc.opts)
		require.NoError(t, err)
		s := &Server{settings: set}
		require.Equal(t, tc.sync, !s.config("127.0.0.1:1").UnsafeNoFsync)
	}
}
