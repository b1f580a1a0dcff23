package mirror

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadersSeeWholeRevisionsInOrder(t *testing.T) {
	t.Parallel()
	h, m := newHistory(t, 2000), newFed()
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for seen := int64(0); seen < h.last; {
				s := m.Snapshot()
				if s.Revision() < seen {
					t.Errorf("revision %d after %d", s.Revision(), seen)
					return
				}
				seen = s.Revision()
				want := h.at[seen]
				if got := good(s); !maps.Equal(want, got) {
					t.Errorf("at %d: %q instead of %q", seen, got, want)
					return
				}
				for _, ev := range h.events[:min(20, len(h.events))] {
					kv, ok := s.Get(ev.Kv.Key)
					if text, exists := want[ev.Kv.Key]; ok != exists || string(kv.Value) != text {
						t.Errorf("at %d: %q is %q", seen, ev.Kv.Key, kv.Value)
						return
					}
				}
				if m.Revision() < seen {
					t.Errorf("revision went back from %d", seen)
				}
			}
		})
	}
	for _, resp := range h.responses {
		m.apply(resp)
		require.Equal(t, resp.Revision, m.Revision())
		require.Equal(t, len(h.at[resp.Revision]), m.Len())
		require.Equal(t, len(h.all[resp.Revision])-len(h.at[resp.Revision]), m.Status().Bad)
	}
	readers.Wait()
	for key, err := range m.Bad() {
		require.Equal(t, "bad", h.all[h.last][key])
		require.ErrorIs(t, err, errBadValue)
	}
}

func TestSnapshotsKeepTheirRevision(t *testing.T) {
	t.Parallel()
	h, m := newHistory(t, 500), newFed()
	snapshots := []Snapshot{m.Snapshot()}
	for _, resp := range h.responses {
		m.apply(resp)
		snapshots = append(snapshots, m.Snapshot())
	}
	for _, s := range snapshots {
		require.Equal(t, h.at[s.Revision()], good(s))
		require.Equal(t, len(h.at[s.Revision()]), s.Len())
	}
}

func TestRangesAreInOrderAndExact(t *testing.T) {
	t.Parallel()
	h, m := newHistory(t, 500), newFed()
	for _, resp := range h.responses {
		m.apply(resp)
	}
	all := slices.Sorted(maps.Keys(h.at[h.last]))
	bounds := append([]string{"", "/p/", "/p/\x00", "/p/\xff", "/q", "/p/1"}, all...)
	for _, from := range bounds {
		for _, to := range bounds {
			want := []string{}
			for _, key := range all {
				if key >= from && (to == "" || key < to) {
					want = append(want, key)
				}
			}
			got := []string{}
			for kv := range m.Range(from, to) {
				got = append(got, kv.Key)
			}
			require.Equal(t, want, got, "from %q to %q", from, to)
		}
	}
}
