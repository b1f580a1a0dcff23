package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// report is what the file of the results holds.
type report struct {
	Machine  machine
	Time     time.Time
	Rounds   int
	Duration time.Duration // of a turn, in nanoseconds
	Cells    []Cell
}

// Cell is the results of all contenders in one cell, the baseline first.
type Cell struct {
	Workload string
	Unit     string // what is counted
	Callers  int
	Value    int // bytes
	Members  int
	Fsync    bool
	Results  []Result
}

// Result is that of one contender. All but Rate and Ratio are over all rounds.
type Result struct {
	Contender string
	Calls     int64
	Rate      Spread // units per second
	Ratio     Spread // of the rates of one round: this contender's to the baseline's
	// ClientCPU and ServerCPU are in microseconds of processors per unit; the server's is
	// that of all members. Both are nil where the system doesn't tell.
	ClientCPU, ServerCPU *float64
	Allocs               float64 // per unit, in the process of the client
	Bytes                float64 // the same, allocated
	P50, P99, P999       float64 // of calls, in microseconds
}

// Spread is how a figure differs from round to round.
type Spread struct{ Median, Min, Q1, Q3, Max float64 }

func newSpread(of []float64) Spread {
	sorted := slices.Sorted(slices.Values(of))
	return Spread{quantile(sorted, 0.5), sorted[0], quantile(sorted, 0.25), quantile(sorted, 0.75), sorted[len(sorted)-1]}
}

// quantile interpolates between the two figures beside it.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

func newCell(c cell, entrants []*entrant) Cell {
	result := Cell{
		Workload: c.workload.name, Unit: c.workload.unit,
		Callers: c.callers, Value: c.value, Members: c.members, Fsync: c.fsync,
	}
	for _, e := range entrants {
		result.Results = append(result.Results, newResult(e))
	}
	return result
}

func newResult(e *entrant) Result {
	units := float64(e.total.units)
	r := Result{
		Contender: e.contender.name,
		Calls:     e.total.calls,
		Rate:      newSpread(e.rates),
		Ratio:     newSpread(e.ratios),
		Allocs:    float64(e.total.allocs) / units,
		Bytes:     float64(e.total.bytes) / units,
		P50:       percentile(e.times, 50),
		P99:       percentile(e.times, 99),
		P999:      percentile(e.times, 99.9),
	}
	if _, told := processorTime(); told {
		client := float64(e.total.client) / float64(time.Microsecond) / units
		server := float64(e.total.server) / float64(time.Microsecond) / units
		r.ClientCPU, r.ServerCPU = &client, &server
	}
	return r
}

// percentile is in microseconds.
func percentile(h *hdrhistogram.Histogram, p float64) float64 {
	return float64(h.ValueAtPercentile(p)) / float64(time.Microsecond)
}

func newReport(s *settings) (*report, error) {
	m, err := thisMachine(s.dir)
	return &report{Machine: m, Time: time.Now().UTC().Truncate(time.Second), Rounds: s.rounds, Duration: s.duration}, err
}

func (r *report) save(path string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

func load(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; make bench writes it", err)
	}
	r := &report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// of returns the result of a contender, or nil.
func (c *Cell) of(contender string) *Result {
	for i := range c.Results {
		if c.Results[i].Contender == contender {
			return &c.Results[i]
		}
	}
	return nil
}
