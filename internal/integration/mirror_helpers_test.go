package integration

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

// mirrorOf opens a mirror for one test.
func mirrorOf(t testing.TB, c *etcd.Client, prefix string, opts ...mirror.Option) *mirror.Mirror {
	t.Helper()
	m, err := mirror.Open(within(t, patience), c, prefix, opts...)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

// held returns what a mirror holds.
func held(m interface {
	All() iter.Seq[etcd.KeyValue]
},
) map[string]string {
	out := map[string]string{}
	for kv := range m.All() {
		out[kv.Key] = string(kv.Value)
	}
	return out
}

// equalsServer waits until the mirror holds what the server does, and requires that to be
// the same in everything.
func equalsServer(t testing.TB, c *etcd.Client, m *mirror.Mirror, prefix string) {
	t.Helper()
	require.NoError(t, m.Fresh(within(t, patience)))
	s := m.Snapshot()
	var got, want []etcd.KeyValue
	for kv := range s.All() {
		got = append(got, kv)
	}
	for kv, err := range c.Scan(within(t, patience), prefix, etcd.WithRevision(s.Revision())) {
		if _, bad := errors.AsType[*etcd.DecodeError](err); bad {
			continue
		}
		require.NoError(t, err)
		want = append(want, kv)
	}
	require.Equal(t, want, got)
	require.Equal(t, len(want), s.Len())
}

// changeText is a change in one line.
func changeText(c mirror.Change) string {
	text := fmt.Sprintf("%s %s: %s -> %s", c.Type, c.Key, c.Old.Value, c.New.Value)
	if c.Resync {
		text += " (resync)"
	}
	if c.Expired {
		text += " (expired)"
	}
	return text
}

// changesOf collects changes until a test wants no more of them.
func changesOf(ctx context.Context, m *mirror.Mirror, opts ...mirror.ChangesOption) <-chan mirror.Change {
	out, changes := make(chan mirror.Change), m.Changes(ctx, opts...)
	go func() {
		defer close(out)
		for c := range changes {
			select {
			case out <- c:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

func putRevision(t testing.TB, c *etcd.Client, key, value string) int64 {
	t.Helper()
	var result etcd.WriteResult
	require.NoError(t, c.Put(within(t, patience), key, []byte(value), etcd.WithResult(&result)))
	return result.Revision
}
