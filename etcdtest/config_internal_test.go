package etcdtest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
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

// etcd gives up by a fatal entry in its log in cases that no damage done on
// purpose brings about for sure.
func TestFatalEntryPanicsInsteadOfEndingTheProcess(t *testing.T) {
	t.Parallel()
	lg := panicky(zap.NewNop())
	for name, give := range map[string]func(string, ...zap.Field){"fatal": lg.Fatal, "panic": lg.Panic} {
		require.PanicsWithValue(t, "no log: unreadable", func() {
			give("no log", zap.String("path", "x"), zap.Error(errors.New("unreadable")))
		}, name)
	}
}
