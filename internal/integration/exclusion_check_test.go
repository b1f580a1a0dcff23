package integration

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckOfExclusionFindsOverlaps(t *testing.T) {
	t.Parallel()
	span := func(worker int, mode string, first, last int64) tenure {
		return tenure{Worker: worker, Mode: mode, Token: int64(worker), First: first, Last: last}
	}
	readWrite := exclusionRule{size: 8, weight: map[string]int{"r": 1, "w": 8}}
	three := exclusionRule{size: 3, weight: map[string]int{"": 1}}
	for name, c := range map[string]struct {
		rule  exclusionRule
		all   []tenure
		found int
	}{
		"one after the other":      {exclusive, []tenure{span(1, "", 10, 19), span(2, "", 20, 30)}, 0},
		"at one moment":            {exclusive, []tenure{span(1, "", 10, 20), span(2, "", 20, 30)}, 1},
		"one within the other":     {exclusive, []tenure{span(1, "", 10, 40), span(2, "", 20, 30)}, 1},
		"never believed":           {exclusive, []tenure{span(1, "", 10, 40), span(2, "", 0, 0)}, 0},
		"readers":                  {readWrite, []tenure{span(1, "r", 10, 40), span(2, "r", 20, 30)}, 0},
		"a reader and a writer":    {readWrite, []tenure{span(1, "r", 10, 40), span(2, "w", 20, 30)}, 1},
		"a writer and a reader":    {readWrite, []tenure{span(1, "w", 10, 40), span(2, "r", 20, 30)}, 1},
		"three of three":           {three, []tenure{span(1, "", 10, 40), span(2, "", 11, 41), span(3, "", 12, 42)}, 0},
		"a fourth of three":        {three, []tenure{span(1, "", 10, 40), span(2, "", 11, 41), span(3, "", 12, 42), span(4, "", 30, 50)}, 1},
		"a fourth after the first": {three, []tenure{span(1, "", 10, 40), span(2, "", 11, 41), span(3, "", 12, 42), span(4, "", 41, 50)}, 0},
	} {
		require.Len(t, c.rule.overlaps(c.all), c.found, name)
	}
}

func TestCheckOfExclusionFindsStaleWrites(t *testing.T) {
	t.Parallel()
	h := &exclusionTruth{claims: map[int64]claimLife{10: {from: 10, until: 20}, 30: {from: 30}}}
	h.writes = []exclusionWrite{{11, 10}, {19, 10}, {31, 30}}
	require.Empty(t, h.stale())
	h.writes = []exclusionWrite{{20, 10}, {25, 10}, {12, 11}, {30, 30}}
	require.Len(t, h.stale(), 4)
}
