package mirror

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestEachChangeComesOnceInOrder(t *testing.T) {
	t.Parallel()
	h, m := newHistory(t, 1000), newFed()
	changes := m.Changes(t.Context(), WithChangesBuffer(1<<30))
	var told []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		copied := newReplica()
		for c := range changes {
			if c.Type == Ended {
				return
			}
			if c.Resync || !copied.take(t, h, c) {
				t.Errorf("%+v", c)
				return
			}
			if kv, _ := m.Get(c.Key); kv.ModRevision < c.New.ModRevision && c.Err == nil && m.Revision() < c.Revision {
				t.Errorf("read at %d after a change at %d", m.Revision(), c.Revision)
			}
			told = append(told, fmt.Sprintf("%v %q %d", c.Type == Deleted, c.Key, c.Revision))
			if !c.More && c.Revision == lastChange(h) {
				return
			}
		}
	}()
	for _, resp := range h.responses {
		m.apply(resp)
	}
	<-done
	m.Close()
	var want []string
	for _, ev := range h.events {
		if !isUnseen(ev) {
			want = append(want, fmt.Sprintf("%v %q %d", ev.Type == etcd.EventDelete, ev.Kv.Key, ev.Kv.ModRevision))
		}
	}
	require.Equal(t, want, told)
}

// lastChange returns the revision of the last event that readers see.
func lastChange(h *history) (revision int64) {
	for _, ev := range h.events {
		if !isUnseen(ev) {
			revision = ev.Kv.ModRevision
		}
	}
	return revision
}

// Readers that fall behind, mirrors that load again, and those who come later: what they
// make of the changes is always what was there.
func TestChangesAlwaysLeadToTheTrueState(t *testing.T) {
	t.Parallel()
	h, m := newHistory(t, 3000), newFed()
	var readers sync.WaitGroup
	lost := make([]int, 6)
	for i := range lost {
		opts := []ChangesOption{WithChangesBuffer(1 + i*2000), WithExisting()}
		changes := m.Changes(t.Context(), opts...)
		readers.Go(func() {
			copied := newReplica()
			for c := range changes {
				if c.Type == Ended || !copied.take(t, h, c) {
					return
				}
				if c.Resync {
					lost[i]++
				}
				for range rand.IntN(3*i + 1) { // slow, more or less
					runtime.Gosched()
				}
				if c.Revision >= lastChange(h) && !c.More {
					return
				}
			}
		})
	}
	for i, resp := range h.responses {
		if i%100 == 50 {
			loadAgain(m, h, resp.Revision)
			continue
		}
		m.apply(resp)
		if i%10 == 0 {
			runtime.Gosched()
		}
	}
	m.apply(h.responses[len(h.responses)-1])
	finished := make(chan struct{})
	go func() { readers.Wait(); close(finished) }()
	<-finished
	m.Close()
	for i, n := range lost {
		require.Positive(t, n, "reader %d never fell behind", i)
	}
}

// loadAgain does what resync does, with what there was at a revision.
func loadAgain(m *Mirror, h *history, revision int64) {
	before := m.applied
	d := newState(m.prefix, before.table.seed, revision).draft()
	newest := map[string]*etcd.Event{}
	for _, ev := range h.events {
		if ev.Kv.ModRevision <= revision && !isUnseen(ev) {
			newest[ev.Kv.Key] = ev
		}
	}
	for key, ev := range newest {
		if ev.Type == etcd.EventDelete {
			continue
		}
		e := d.newEntry(*ev.Kv, m.extraOf(ev))
		if old := before.table.get(key); old != nil && old.equals(e) {
			e = old
		}
		d.put(e)
	}
	m.install(d.done())
}

func TestChangesEndInsideTheirLoop(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(m *Mirror, cancel func()){
		"context": func(_ *Mirror, cancel func()) { cancel() },
		"close":   func(m *Mirror, _ func()) { m.Close() },
		"client":  func(m *Mirror, _ func()) { m.end(etcd.ErrClosed) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, m := newHistory(t, 50), newFed()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			changes := m.Changes(ctx)
			for _, resp := range h.responses {
				m.apply(resp)
			}
			var got []Change
			for c := range changes {
				got = append(got, c)
				if len(got) == 1 {
					end(m, cancel)
				}
			}
			require.NotEqual(t, Ended, got[0].Type)
			if name == "context" {
				require.Len(t, got, 1)
			} else {
				require.Len(t, got, 2)
				require.Equal(t, Ended, got[1].Type)
				require.ErrorIs(t, got[1].Err, etcd.ErrClosed)
			}
			require.Empty(t, m.readers)
			for c := range changes {
				require.Fail(t, "a second loop", "%v", c)
			}
			m.Close()
		})
	}
}

func TestLoopNeverBegunKeepsOnlyItsBuffer(t *testing.T) {
	t.Parallel()
	h, m := newHistory(t, 3000), newFed()
	ctx, cancel := context.WithCancel(t.Context())
	_ = m.Changes(ctx, WithChangesBuffer(1000))
	require.Len(t, m.readers, 1)
	for _, resp := range h.responses {
		m.apply(resp)
		for r := range m.readers {
			require.LessOrEqual(t, len(r.queue), 5)
		}
	}
	cancel()
	m.mu.Lock()
	for len(m.readers) > 0 {
		m.mu.Unlock()
		runtime.Gosched()
		m.mu.Lock()
	}
	m.mu.Unlock()
	m.Close()
}

func TestMissedDeletionComesWithItsOldValue(t *testing.T) {
	t.Parallel()
	m := newFed()
	kv := &etcd.KeyValue{Key: "/p/a", Value: []byte("old"), CreateRevision: 2, ModRevision: 2, Version: 1}
	m.apply(etcd.WatchResponse{Events: []*etcd.Event{{Kv: kv}}, Revision: 2})
	changes := m.Changes(t.Context())
	m.install(newState(m.prefix, m.applied.table.seed, 9))
	for c := range changes {
		require.Equal(t, Change{Type: Deleted, Key: "/p/a", Old: *kv, Revision: 9, Resync: true}, c)
		break
	}
	require.EqualValues(t, 1, m.Status().Resyncs)
	m.Close()
}
