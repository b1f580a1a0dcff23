package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFlagsNameEveryCombination(t *testing.T) {
	s, err := parse([]string{"-workloads", "put,scan", "-callers", "all", "-values", "100,10240", "-members", "all", "-fsync", "off"})
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, c := range s.plan {
		require.False(t, seen[c.String()], c)
		seen[c.String()] = true
		require.False(t, c.fsync)
	}
	require.True(t, seen["put, callers 1024, values of 10240 B, members 3, fsync off"])
	require.True(t, seen["scan, callers 2, values of 10240 B, members 1, fsync off"])
	require.False(t, seen["scan, callers 4, values of 10240 B, members 1, fsync off"], "more than fits")
}

func TestStandardPlanHasEveryDimension(t *testing.T) {
	s, err := parse(nil)
	require.NoError(t, err)
	var cells time.Duration
	workload, callers, value, members, fsync := map[string]bool{}, map[int]bool{}, map[int]bool{}, map[int]bool{}, map[bool]bool{}
	for _, c := range s.plan {
		workload[c.workload.name], callers[c.callers], value[c.value] = true, true, true
		members[c.members], fsync[c.fsync] = true, true
		for _, contender := range s.contenders {
			if contender.takesPart(c.workload) {
				cells += time.Duration(s.rounds) * (s.duration + s.warmUp())
			}
		}
	}
	require.Len(t, workload, len(workloads))
	require.Len(t, callers, len(allCallers))
	require.Len(t, value, len(allValues))
	require.Len(t, members, 2)
	require.Len(t, fsync, 2)
	require.Less(t, cells, 15*time.Minute)
}

func TestBaselineIsAlwaysFirst(t *testing.T) {
	for args, want := range map[string][]string{
		"-contenders=etcd encrypted,clientv3": {"clientv3", "etcd encrypted"},
		"-encryption=on":                      {"clientv3", "etcd encrypted", "etcd batched encrypted"},
		"-encryption=off":                     {"clientv3", "etcd", "etcd batched", "mirror", "leasing"},
		"-encryption=all":                     {"clientv3", "etcd", "etcd encrypted", "etcd batched", "etcd batched encrypted", "mirror", "leasing"},
	} {
		s, err := parse([]string{args})
		require.NoError(t, err)
		require.Equal(t, want, names(s.contenders), args)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-workloads", "nothing"},
		{"-contenders", "nobody"},
		{"-callers", "0"},
		{"-callers", "1025"},
		{"-values", "1k"},
		{"-members", "-1"},
		{"-fsync", "perhaps"},
		{"-encryption", "none"},
		{"-rounds", "0"},
		{"-duration", "0s"},
		{"put"},
	} {
		require.Contains(t, mustFail(t, args...).Error(), args[len(args)-1])
	}
}
