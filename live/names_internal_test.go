package live

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTwoNamesForOneEntryAreRefused(t *testing.T) {
	t.Parallel()
	type numbered struct{ Names map[uint8]string }
	b := builderOf[numbered](t, "/c/", false)
	for _, values := range []map[string]string{
		{"names/1": "a", "names/01": "b"},
		{"names": `{"1": "a", " 1": "b"}`},
	} {
		_, err := b.try(stateOf(values))
		require.ErrorIs(t, err, ErrSameField)
		require.ErrorContains(t, err, "/c/names")
	}
	got, err := b.try(stateOf(map[string]string{"names/1": "a", "names/2": "b"}))
	require.NoError(t, err)
	require.Equal(t, &numbered{map[uint8]string{1: "a", 2: "b"}}, got)
	_, err = b.try(stateOf(map[string]string{"names/1": "a", "names/none": "b"}))
	require.ErrorContains(t, err, "does not fit")
}
