package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestShortRunMeasuresEverythingAndDrawsIt(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "performance-stale.svg")
	require.NoError(t, os.WriteFile(stale, nil, 0o600))
	require.NoError(t, run(t.Context(), flags(dir, "-short", "-duration", "5ms")))

	r, err := load(filepath.Join(dir, "out", "bench.json"))
	require.NoError(t, err)
	plan := shortPlan()
	require.Len(t, r.Cells, len(plan))
	measured := map[string]bool{}
	for i, c := range r.Cells {
		require.Equal(t, plan[i].workload.name, c.Workload)
		for _, result := range c.Results {
			measured[c.Workload+" "+result.Contender] = true
			checkResult(t, result)
		}
		require.Equal(t, Spread{1, 1, 1, 1, 1}, c.of(baseline).Ratio)
	}
	for _, w := range workloads {
		for _, contender := range []string{baseline, "etcd", "etcd encrypted"} {
			require.True(t, measured[w.name+" "+contender], "%s of %s", w.name, contender)
		}
	}
	require.True(t, measured["get leasing"])

	require.NoError(t, run(t.Context(), flags(dir, "-render")))
	require.NoFileExists(t, stale)
	checkPage(t, dir, r)
	left, err := filepath.Glob(filepath.Join(dir, "etcdbench-*"))
	require.NoError(t, err)
	require.Empty(t, left, "data of servers")
}

func checkResult(t *testing.T, r Result) {
	t.Helper()
	require.Positive(t, r.Calls)
	require.Positive(t, r.Rate.Min)
	for _, s := range []Spread{r.Rate, r.Ratio} {
		require.LessOrEqual(t, s.Min, s.Q1)
		require.LessOrEqual(t, s.Q1, s.Median)
		require.LessOrEqual(t, s.Median, s.Q3)
		require.LessOrEqual(t, s.Q3, s.Max)
	}
	require.Positive(t, r.Allocs)
	require.Positive(t, r.Bytes)
	require.LessOrEqual(t, r.P50, r.P99)
	require.LessOrEqual(t, r.P99, r.P999)
	if _, told := processorTime(); told {
		require.Positive(t, *r.ClientCPU)
		require.GreaterOrEqual(t, *r.ServerCPU, 0.0)
	}
}

// checkPage holds that the page names all workloads and that its charts are there and are
// well-formed.
func checkPage(t *testing.T, dir string, r *report) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(dir, "performance.md"))
	require.NoError(t, err)
	for _, c := range r.Cells {
		require.Contains(t, string(page), "| `"+c.Workload+"` |")
	}
	require.Contains(t, string(page), r.Machine.CPU)
	charts, err := filepath.Glob(filepath.Join(dir, "performance-*.svg"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(charts), 2)
	require.Equal(t, len(charts), strings.Count(string(page), "!["))
	for _, path := range charts {
		require.Contains(t, string(page), "("+filepath.Base(path)+")")
		f, err := os.Open(path)
		require.NoError(t, err)
		for d := xml.NewDecoder(f); ; {
			if _, err = d.Token(); err != nil {
				break
			}
		}
		require.ErrorIs(t, err, io.EOF, path)
		require.NoError(t, f.Close())
	}
}

func TestCancelledRunLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := run(ctx, flags(dir, "-workloads", "get,watch", "-callers", "4", "-duration", "1m", "-rounds", "2"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestFailedCallEndsTheTurn(t *testing.T) {
	failure := errors.New("refused")
	for _, coupled := range []bool{false, true} {
		c := startOne(t)
		w := workload{
			coupled: coupled,
			begin: everyCaller(func(_ *site, i int) caller {
				return func(ctx context.Context) (int, error) {
					if i == 0 {
						return 0, failure
					}
					<-ctx.Done() // as one that waits for the other
					return 0, ctx.Err()
				}
			}),
		}
		turn := turn{site: &site{callers: 2}, workload: w, cluster: c, warmUp: time.Minute, duration: time.Minute, times: &times{}}
		_, err := turn.take(t.Context())
		require.ErrorIs(t, err, failure)
	}
}

// startOne starts a cluster of one member for a test.
func startOne(t *testing.T) *cluster {
	t.Helper()
	c, err := startCluster(t.Context(), t.TempDir(), setting{members: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.close()) })
	return c
}

func TestMemberThatCannotStartIsAnError(t *testing.T) {
	_, err := startCluster(t.Context(), filepath.Join(t.TempDir(), "missing"), setting{members: 1})
	require.ErrorIs(t, err, os.ErrNotExist)
}
