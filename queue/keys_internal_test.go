package queue

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeysTellWhatTheyWereMadeOf(t *testing.T) {
	t.Parallel()
	l := layout{root: "q" + separator}
	id := strings.Repeat("0123456789abcdef", 2)[:idDigits]
	for _, p := range []place{ready, delayed, running, dead} {
		want := entry{id: id, priority: MaxPriority, attempts: math.MaxInt32}
		switch p {
		case delayed:
			want.due = math.MaxInt64
		case running:
			want.consumer = math.MaxInt64
		}
		key := l.key(p, want)
		got, at, ok := l.parse(key)
		require.True(t, ok, key)
		require.Equal(t, p, at)
		require.Equal(t, want, got)
		for i := len(l.under(p)); i < len(key); i++ {
			for _, bad := range []string{key[:i], key[:i] + "x" + key[i+1:], key[:i] + "A" + key[i+1:], key[:i] + "-" + key[i+1:], key + "0"} {
				_, _, ok := l.parse(bad)
				require.False(t, ok, bad)
			}
		}
	}
	_, _, ok := l.parse("q" + separator + "job/" + id)
	require.False(t, ok)
}

func TestOrderOfKeysIsThatOfTime(t *testing.T) {
	t.Parallel()
	l := layout{root: "q" + separator}
	early, late := entry{id: strings.Repeat("0", idDigits), due: 9}, entry{id: strings.Repeat("1", idDigits), due: 16}
	for _, p := range []place{ready, delayed} {
		require.Less(t, l.key(p, early), l.key(p, late))
	}
}
