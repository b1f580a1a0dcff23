// Command bench measures package etcd beside clientv3 on the same servers.
//
//	bench [flags]          measures, prints a table, and writes .cache/bench.json
//	bench -render          makes docs/performance.md and its charts of that file
//	bench -allocs          fails if a call allocates more than internal/bench/allocs.txt says
//	bench -allocs -write   writes that file anew
//
// A cell is one workload with a number of callers, a size of values, a number of members
// and fsync on or off. All contenders of a cell take turns in this process, so that
// whatever else the machine does falls on all of them; the order is turned around in
// every other round. The members of the cluster are processes of their own.
//
// Without a flag that names cells, bench measures those of [standardPlan]. With one it
// measures every combination of what is named, at 1, 16 and 256 callers, 100 B, one
// member and fsync where it isn't. See -help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	if serveIfAsked() {
		return
	}
	// The servers end, and their data go, on Ctrl-C as well.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	switch {
	case s.render:
		report, err := load(s.out)
		if err != nil {
			return err
		}
		return report.render(s.docs)
	case s.allocs:
		return checkAllocations(ctx, s)
	}
	report, err := measureAll(ctx, s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.out), 0o750); err != nil {
		return err
	}
	if err := report.save(s.out); err != nil {
		return err
	}
	_, err = fmt.Printf("\nwritten to %s; bench -render makes the charts of it\n", s.out)
	return err
}
