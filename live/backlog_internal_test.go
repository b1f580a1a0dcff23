package live

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of any history, each state that is to be judged is a true one, the newest first, and none
// after a good one is older than that.
func TestBacklogReturnsTrueStatesNewestFirst(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	history := map[int64]map[string]entry{1: {"a": {value: []byte("first")}}}
	b := newBacklog(state{revision: 1, entries: history[1]}, true)
	now := maps.Clone(history[1])
	taken, revision := int64(1), int64(1)
	for range 5000 {
		if r.IntN(3) > 0 { // a revision arrives
			revision++
			var changes []change
			for range 1 + r.IntN(3) {
				c := change{key: string(rune('a' + r.IntN(5)))}
				if r.IntN(3) > 0 {
					c.now = &entry{value: fmt.Append(nil, revision, len(changes))}
				}
				put(now, c.key, c.now)
				changes = append(changes, c)
			}
			history[revision] = maps.Clone(now)
			b.add(revision, changes, false)
			continue
		}
		s, ok := b.next()
		if !ok {
			continue
		}
		require.Greater(t, s.revision, taken)
		require.Equal(t, history[s.revision], s.entries)
		good := r.IntN(2) == 0
		b.judged(s, good)
		if good {
			taken = s.revision
		}
	}
	require.Greater(t, taken, int64(1000))
}

func TestLastGoodStateIsFoundBehindBadOnes(t *testing.T) {
	t.Parallel()
	b := newBacklog(state{revision: 1}, true)
	for revision := int64(2); revision <= 6; revision++ {
		b.add(revision, []change{{"k", &entry{value: fmt.Append(nil, revision)}}}, false)
	}
	for _, want := range []int64{6, 5} { // both bad
		s, ok := b.next()
		require.True(t, ok)
		require.Equal(t, want, s.revision)
		b.judged(s, false)
	}
	b.add(7, []change{{"k", nil}}, false) // the newest comes first
	s, ok := b.next()
	require.True(t, ok)
	require.EqualValues(t, 7, s.revision)
	require.True(t, b.isNewest(s))
	require.False(t, b.judged(s, false))
	s, ok = b.next()
	require.True(t, ok)
	require.EqualValues(t, 4, s.revision)
	require.Equal(t, "4", string(s.entries["k"].value))
	require.True(t, b.judged(s, true), "newer ones were refused")
	_, ok = b.next()
	require.False(t, ok)
	require.Empty(t, b.pending)
}

func TestWhatBelongsTogetherIsJudgedAsOne(t *testing.T) {
	t.Parallel()
	b := newBacklog(state{revision: 1}, true)
	b.add(2, []change{{"a", &entry{value: []byte("half")}}}, true)
	require.True(t, b.isOpen())
	_, ok := b.next()
	require.False(t, ok)
	b.add(3, []change{{"b", &entry{value: []byte("whole")}}}, true)
	b.cut()
	b.add(4, []change{{"c", &entry{}}}, true) // the next
	s, ok := b.next()
	require.True(t, ok)
	require.EqualValues(t, 3, s.revision)
	require.Len(t, s.entries, 2)
	b.judged(s, false)
	b.cut()
	s, _ = b.next()
	require.EqualValues(t, 4, s.revision)
	b.judged(s, false)
	_, ok = b.next()
	require.False(t, ok, "half of a group was judged")
}

func TestBacklogIsBounded(t *testing.T) {
	t.Parallel()
	b := newBacklog(state{revision: 1}, true)
	for revision := range int64(3 * maxPending) {
		b.add(revision+2, []change{{"k", &entry{value: []byte("v")}}}, false)
	}
	require.Len(t, b.pending, maxPending)
	large := make([]byte, 3*maxPendingBytes/4)
	for revision := range int64(10) {
		b.add(revision+10_000, []change{{"k", &entry{value: large}}}, false)
	}
	require.Len(t, b.pending, 1)
	s, ok := b.next()
	require.True(t, ok)
	require.EqualValues(t, 10_009, s.revision)
}
