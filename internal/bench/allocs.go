package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// What a row may grow by before it is refused, as gRPC's own goroutines allocate now and
// then: less than one object, but for the larger rows.
const (
	moreObjects   = 0.75
	objectsFactor = 1.002
	bytesFactor   = 1.04
	allocCalls    = 500
	allocTries    = 4 // of which the least counts
	allocValue    = 100
	allocDeadline = 10 * time.Minute
)

// allocsHeader begins the file.
const allocsHeader = `# What one call of one caller allocates in the process of the client, with values of 100 B.
# make allocs compares; make allocs WRITE=1 writes the file anew. %s %s/%s.
#
# workload / contender: objects, bytes
`

// allocations is what one call allocates.
type allocations struct{ objects, bytes float64 }

// allocRow is a workload whose callers have a deadline of their own, as services do, or
// none: then this package makes one for each call, and clientv3 waits without end.
type allocRow struct {
	workload workload
	bounded  bool
}

func (r allocRow) name() string {
	if r.bounded {
		return r.workload.name + " with deadline"
	}
	return r.workload.name
}

// allocRows are those that are held to the file.
func allocRows() (rows []allocRow) {
	for _, w := range some("put", "get", "list", "keys", "cas") {
		rows = append(rows, allocRow{workload: w})
	}
	for _, w := range some("put", "get") {
		rows = append(rows, allocRow{w, true})
	}
	return rows
}

// leanFactor is how many objects of clientv3's a put and a get allocate at most, where the
// caller has a deadline.
const leanFactor = 0.85

// checkLean returns an error that names the rows that are past leanFactor.
func checkLean(rows map[string]allocations) error {
	var problems []error
	for _, r := range allocRows() {
		raw, ours := rows[r.name()+" / "+baseline], rows[r.name()+" / etcd"]
		if r.bounded && ours.objects > leanFactor*raw.objects {
			problems = append(problems, fmt.Errorf("%s allocates %.1f objects, and may %.2f of the %.1f of %s",
				r.name(), ours.objects, leanFactor, raw.objects, baseline))
		}
	}
	return errors.Join(problems...)
}

// checkAllocations compares with the file, or writes it.
func checkAllocations(ctx context.Context, s *settings) error {
	rows, names, err := measureAllocations(ctx, s)
	if err != nil {
		return err
	}
	if s.write {
		return writeAllocations(s.allocsFile, rows, names)
	}
	allowed, err := readAllocations(s.allocsFile)
	if err != nil {
		return err
	}
	text, err := compareAllocations(rows, names, allowed)
	fmt.Print(text)
	if err = errors.Join(err, checkLean(rows)); err != nil {
		return fmt.Errorf("%s: %w", s.allocsFile, err)
	}
	return nil
}

// compareAllocations returns a table of all rows, and an error that names those that have
// grown or are new.
func compareAllocations(rows map[string]allocations, names []string, allowed map[string]allocations) (table string, err error) {
	var text strings.Builder
	var problems []error
	for _, name := range names {
		now, then := rows[name], allowed[name]
		fmt.Fprintf(&text, "%-24s %7.1f objects (%.1f)  %8.0f B (%.0f)\n", name, now.objects, then.objects, now.bytes, then.bytes)
		switch {
		case then.objects == 0:
			problems = append(problems, fmt.Errorf("%s isn't in the file", name))
		case now.objects > then.objects*objectsFactor+moreObjects || now.bytes > then.bytes*bytesFactor:
			problems = append(problems, fmt.Errorf("%s allocates %.1f objects of %.0f B, which were %.1f of %.0f",
				name, now.objects, now.bytes, then.objects, then.bytes))
		}
	}
	return text.String(), errors.Join(problems...)
}

// measureAllocations returns what calls allocate, and the names of the rows in order.
func measureAllocations(ctx context.Context, s *settings) (rows map[string]allocations, names []string, err error) {
	b := &bench{settings: s}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.move(ctx, setting{members: 1}); err != nil {
		return nil, nil, err
	}
	// By itself a caller has nobody to meet.
	s.contenders = slices.DeleteFunc(s.contenders, func(c contender) bool { return c.only != nil || c.batches })
	if err := b.open(); err != nil {
		return nil, nil, err
	}
	rows = map[string]allocations{}
	bounded, cancel := context.WithTimeout(ctx, allocDeadline)
	defer cancel()
	for _, r := range allocRows() {
		w := r.workload
		ctx := ctx
		if r.bounded {
			ctx = bounded
		}
		for i, contender := range s.contenders {
			site := newSite(b.clients[i], fmt.Sprintf("/bench/%d/", i), 1, allocValue)
			if w.prepare != nil {
				if err := w.prepare(ctx, site); err != nil {
					return nil, nil, err
				}
			}
			name := r.name() + " / " + contender.name
			if rows[name], err = allocationsOf(ctx, w, site); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", name, err)
			}
			names = append(names, name)
		}
	}
	return rows, names, nil
}

// allocationsOf returns the least of some tries.
func allocationsOf(ctx context.Context, w workload, s *site) (least allocations, err error) {
	least = allocations{math.Inf(1), math.Inf(1)}
	callers, _, err := w.begin(ctx, s)
	if err != nil {
		return least, err
	}
	if _, err := callers[0](ctx); err != nil { // a connection's first call costs more
		return least, err
	}
	for range allocTries {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range allocCalls {
			if _, err := callers[0](ctx); err != nil {
				return least, err
			}
		}
		runtime.ReadMemStats(&after)
		least.objects = min(least.objects, float64(after.Mallocs-before.Mallocs)/allocCalls)
		least.bytes = min(least.bytes, float64(after.TotalAlloc-before.TotalAlloc)/allocCalls)
	}
	return least, nil
}

func writeAllocations(path string, rows map[string]allocations, names []string) error {
	var text strings.Builder
	fmt.Fprintf(&text, allocsHeader, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, name := range names {
		fmt.Fprintf(&text, "%s: %.1f, %.0f\n", name, rows[name].objects, rows[name].bytes)
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

func readAllocations(path string) (rows map[string]allocations, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	rows = map[string]allocations{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		name, figures, _ := strings.Cut(lines.Text(), ": ")
		var row allocations
		if _, err := fmt.Sscanf(figures, "%f, %f", &row.objects, &row.bytes); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, lines.Text(), err)
		}
		rows[name] = row
	}
	return rows, lines.Err()
}
