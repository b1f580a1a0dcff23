package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings is what the command line asks for.
type settings struct {
	plan       []cell
	contenders []contender
	duration   time.Duration // of one turn of one contender, after its warm-up
	rounds     int           // in each of which every contender has a turn
	dir        string        // where the servers' data lie
	out        string        // the results
	docs       string        // the folder of performance.md
	render     bool
	allocs     bool
	allocsFile string
	write      bool
}

// warmUp is how long the callers of a turn run before it counts.
func (s *settings) warmUp() time.Duration { return s.duration / 5 }

// dimensions are the flags that name cells, as they were given.
type dimensions struct {
	short                                      bool
	workloads, callers, values, members, fsync string
	contenders, encryption                     string
}

func parse(args []string) (*settings, error) {
	s, d := &settings{}, &dimensions{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&d.workloads, "workloads", "", "`names` of workloads, or all: "+strings.Join(names(workloads), ","))
	f.StringVar(&d.callers, "callers", "", "`numbers` of callers at once, or all: 1,2,4,16,64,256,1024")
	f.StringVar(&d.values, "values", "", "`sizes` of values in bytes, or all: 100,1024,10240")
	f.StringVar(&d.members, "members", "", "`numbers` of members of the cluster, or all: 1,3")
	f.StringVar(&d.fsync, "fsync", "", "whether servers wait for the disk: `on, off` or all")
	f.StringVar(&d.contenders, "contenders", "", "`names` of those that are measured beside "+baseline+", or all: "+strings.Join(names(contenders), ","))
	f.StringVar(&d.encryption, "encryption", "all", "which contenders, those with encryption `on, off` or all; "+baseline+" has none")
	f.DurationVar(&s.duration, "duration", 250*time.Millisecond, "how long each turn of a contender is measured")
	f.IntVar(&s.rounds, "rounds", 5, "how many turns each contender has in a cell")
	f.BoolVar(&d.short, "short", false, "measure few cells for a moment each, to see that it works")
	f.StringVar(&s.dir, "dir", "", "the `folder` for the servers' data: its disk is what fsync waits for (default the system's temporary one)")
	f.StringVar(&s.out, "out", ".cache/bench.json", "the `file` of the results")
	f.BoolVar(&s.render, "render", false, "measure nothing: make performance.md and its charts of -out")
	f.StringVar(&s.docs, "docs", "docs", "the `folder` that -render writes to")
	f.BoolVar(&s.allocs, "allocs", false, "compare the allocations of single calls with -allocs-file")
	f.StringVar(&s.allocsFile, "allocs-file", "internal/bench/allocs.txt", "the `file` that -allocs reads")
	f.BoolVar(&s.write, "write", false, "with -allocs: write the file anew")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("what is %q? See -help", f.Arg(0))
	case s.rounds < 1 || s.duration <= 0:
		return nil, fmt.Errorf("%d rounds of %v measure nothing", s.rounds, s.duration)
	}
	if d.short {
		given := map[string]bool{}
		f.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if !given["duration"] {
			s.duration = 40 * time.Millisecond
		}
		if !given["rounds"] {
			s.rounds = 2
		}
	}
	return s, d.choose(s)
}

// choose fills in the plan and the contenders.
func (d *dimensions) choose(s *settings) (err error) {
	if s.contenders, err = chosen(contenders, d.contenders); err != nil {
		return err
	}
	encrypted, err := switches(d.encryption)
	if err != nil {
		return fmt.Errorf("-encryption: %w", err)
	}
	s.contenders = slices.DeleteFunc(s.contenders, func(c contender) bool {
		return c.name == baseline || !slices.Contains(encrypted, c.encrypted)
	})
	// The ratios are to this one.
	first, err := chosen(contenders, baseline)
	if err != nil {
		return err
	}
	s.contenders = append(first, s.contenders...)

	switch {
	case d.short:
		s.plan = shortPlan()
	case d.workloads+d.callers+d.values+d.members+d.fsync == "":
		s.plan = standardPlan()
	default:
		sw, err := d.sweep()
		if err != nil {
			return err
		}
		s.plan = sw.cells()
	}
	return nil
}

// sweep returns every combination of what was named.
func (d *dimensions) sweep() (sw sweep, err error) {
	if sw.workloads, err = chosen(workloads, d.workloads); err != nil {
		return sw, err
	}
	if sw.callers, err = numbers(d.callers, []int{1, 16, 256}, allCallers); err != nil {
		return sw, fmt.Errorf("-callers: %w", err)
	}
	if most := slices.Max(sw.callers); most > singleKeys {
		return sw, fmt.Errorf("-callers: %d are more than the %d keys that there are", most, singleKeys)
	}
	if sw.values, err = numbers(d.values, []int{100}, allValues); err != nil {
		return sw, fmt.Errorf("-values: %w", err)
	}
	if sw.members, err = numbers(d.members, []int{1}, []int{1, 3}); err != nil {
		return sw, fmt.Errorf("-members: %w", err)
	}
	if d.fsync == "" {
		d.fsync = "on"
	}
	if sw.fsync, err = switches(d.fsync); err != nil {
		return sw, fmt.Errorf("-fsync: %w", err)
	}
	return sw, nil
}

// named is an entry of a table that the command line can choose from.
type named interface{ called() string }

func names[T named](table []T) []string {
	var all []string
	for _, entry := range table {
		all = append(all, entry.called())
	}
	return all
}

// chosen returns the entries that a list names, in its order: all for "" and "all".
func chosen[T named](table []T, list string) ([]T, error) {
	if list == "" || list == "all" {
		return slices.Clone(table), nil
	}
	var some []T
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(table, func(entry T) bool { return entry.called() == name })
		if i < 0 {
			return nil, fmt.Errorf("nothing is called %q; there are %s", name, strings.Join(names(table), ", "))
		}
		some = append(some, table[i])
	}
	return some, nil
}

// numbers reads a list of numbers above 0.
func numbers(list string, byDefault, all []int) ([]int, error) {
	switch list {
	case "":
		return byDefault, nil
	case "all":
		return all, nil
	}
	var some []int
	for field := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no number above 0", field)
		}
		some = append(some, n)
	}
	return some, nil
}

// switches reads "on", "off" or both.
func switches(list string) ([]bool, error) {
	switch list {
	case "on":
		return []bool{true}, nil
	case "off":
		return []bool{false}, nil
	case "all", "on,off", "off,on":
		return []bool{true, false}, nil
	}
	return nil, fmt.Errorf("%q is neither on, off nor all", list)
}
