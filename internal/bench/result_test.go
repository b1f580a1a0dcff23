package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpreadInterpolatesQuartiles(t *testing.T) {
	require.Equal(t, Spread{Median: 3, Min: 1, Q1: 2, Q3: 4, Max: 9}, newSpread([]float64{9, 2, 3, 1, 4}))
	require.Equal(t, Spread{Median: 1.5, Min: 1, Q1: 1.25, Q3: 1.75, Max: 2}, newSpread([]float64{2, 1}))
	require.Equal(t, Spread{1, 1, 1, 1, 1}, newSpread([]float64{1}))
}

func TestAllocationsThatGrowAreRefused(t *testing.T) {
	names := []string{"put / etcd", "get / etcd"}
	allowed := map[string]allocations{"put / etcd": {100, 7000}, "get / etcd": {50, 4000}}
	for name, tc := range map[string]struct {
		put     allocations
		problem string
	}{
		"equal":   {allocations{100, 7000}, ""},
		"fewer":   {allocations{80, 6000}, ""},
		"noise":   {allocations{100.6, 7100}, ""},
		"objects": {allocations{101, 7000}, "put / etcd"},
		"bytes":   {allocations{100, 8000}, "put / etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			table, err := compareAllocations(map[string]allocations{"put / etcd": tc.put, "get / etcd": {50, 4000}}, names, allowed)
			require.Contains(t, table, "get / etcd")
			if tc.problem == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.problem)
			require.NotContains(t, err.Error(), "get / etcd")
		})
	}
	_, err := compareAllocations(map[string]allocations{"new": {1, 1}}, []string{"new"}, allowed)
	require.ErrorContains(t, err, "new")
}

func TestAllocationsFileIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "allocs.txt")
	rows := map[string]allocations{"put / etcd": {100.5, 7000}, "get / etcd": {50, 4000}}
	require.NoError(t, writeAllocations(path, rows, []string{"put / etcd", "get / etcd"}))
	read, err := readAllocations(path)
	require.NoError(t, err)
	require.Equal(t, rows, read)
}
