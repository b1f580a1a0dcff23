package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// measureAll measures all cells of the plan and prints each.
func measureAll(ctx context.Context, s *settings) (report *report, err error) {
	if s.dir == "" {
		s.dir = os.TempDir()
	}
	report, err = newReport(s)
	if err != nil {
		return nil, err
	}
	fmt.Print(report.heading())
	b := &bench{settings: s, times: &times{}}
	defer func() {
		if err = errors.Join(err, b.close()); err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err) // clients have words of their own for it
		}
	}()
	for _, c := range s.plan {
		if err := b.move(ctx, c.setting); err != nil {
			return nil, err
		}
		result, err := b.cell(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", c, err)
		}
		report.Cells = append(report.Cells, result)
		fmt.Print(result.lines())
	}
	return report, nil
}

// bench is the cluster of the moment with the clients of all contenders.
type bench struct {
	settings *settings
	times    *times

	setting  setting
	cluster  *cluster // nil before the first
	admin    *clientv3.Client
	clients  []*client // of the contenders
	prepared map[string]bool
}

// move goes to another cluster, unless it is the one that is there.
func (b *bench) move(ctx context.Context, to setting) (err error) {
	if b.cluster != nil && b.setting == to {
		return nil
	}
	if err := b.close(); err != nil {
		return err
	}
	b.setting, b.prepared = to, map[string]bool{}
	if b.cluster, err = startCluster(ctx, b.settings.dir, to); err != nil {
		return err
	}
	b.admin, err = dialRaw(b.cluster.endpoints())
	return err
}

// open opens a client for each contender. They live no longer than a cell, as the leasing
// layer takes a whole processor once a revision that it watches from is compacted.
func (b *bench) open() error {
	for _, contender := range b.settings.contenders {
		c, err := contender.open(b.cluster.endpoints())
		if err != nil {
			return fmt.Errorf("%s: %w", contender.name, err)
		}
		b.clients = append(b.clients, c)
	}
	return nil
}

func (b *bench) closeClients() (err error) {
	for _, c := range b.clients {
		err = errors.Join(err, c.close())
	}
	b.clients = nil
	return err
}

// close gives up the cluster and what is connected to it.
func (b *bench) close() (err error) {
	err = b.closeClients()
	if b.admin != nil {
		err = errors.Join(err, b.admin.Close())
	}
	if b.cluster != nil {
		err = errors.Join(err, b.cluster.close())
	}
	b.admin, b.cluster = nil, nil
	return err
}

// entrant is a contender in a cell.
type entrant struct {
	contender contender
	turn      turn
	rates     []float64 // units per second of each round
	ratios    []float64 // to the baseline of the same round
	total     worked
	times     *hdrhistogram.Histogram
}

// cell measures all contenders in turn.
func (b *bench) cell(ctx context.Context, c cell) (_ Cell, err error) {
	if err := b.compact(ctx); err != nil {
		return Cell{}, fmt.Errorf("compaction: %w", err)
	}
	defer func() { err = errors.Join(err, b.closeClients()) }()
	if err := b.open(); err != nil {
		return Cell{}, err
	}
	entrants, err := b.entrants(ctx, c)
	if err != nil {
		return Cell{}, err
	}
	for round := range b.settings.rounds {
		order := slices.Clone(entrants)
		if round%2 == 1 { // none always goes first
			slices.Reverse(order)
		}
		for _, e := range order {
			if err := e.take(ctx); err != nil {
				return Cell{}, fmt.Errorf("%s: %w", e.contender.name, err)
			}
		}
		for _, e := range entrants {
			e.ratios = append(e.ratios, e.rates[round]/entrants[0].rates[round])
		}
	}
	return newCell(c, entrants), nil
}

// entrants returns those who can do the work of a cell, the baseline first.
func (b *bench) entrants(ctx context.Context, c cell) (all []*entrant, err error) {
	for i, contender := range b.settings.contenders {
		if !contender.takesPart(c.workload) || !c.workload.can(b.clients[i]) {
			continue
		}
		s := newSite(b.clients[i], fmt.Sprintf("/bench/%d/%d/", i, c.value), c.callers, c.value)
		if err := b.prepare(ctx, c.workload, s); err != nil {
			return nil, fmt.Errorf("%s: preparation: %w", contender.name, err)
		}
		all = append(all, &entrant{contender: contender, times: newHistogram(), turn: turn{
			site: s, workload: c.workload, cluster: b.cluster, times: b.times,
			warmUp: b.settings.warmUp(), duration: b.settings.duration,
		}})
	}
	return all, nil
}

// prepare stores what a workload reads, if it isn't there yet.
func (b *bench) prepare(ctx context.Context, w workload, s *site) error {
	if name := s.prefix + w.name; w.prepare != nil && !b.prepared[name] {
		if err := w.prepare(ctx, s); err != nil {
			return err
		}
		b.prepared[name] = true
	}
	if s.client.warm != nil {
		return s.client.warm(ctx, s.single[:singleKeys])
	}
	return nil
}

// take is the contender's turn in a round.
func (e *entrant) take(ctx context.Context) error {
	w, err := e.turn.take(ctx)
	if err != nil {
		return err
	}
	e.rates = append(e.rates, float64(w.units)/w.time.Seconds())
	e.total.spending = e.total.plus(w.spending)
	e.total.calls += w.calls
	e.total.units += w.units
	return e.turn.times.mergeInto(e.times)
}

// compact removes the history of the cell before, so that the database neither grows
// without end nor is compacted during a turn.
func (b *bench) compact(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := b.admin.Get(ctx, "/bench")
	if err != nil {
		return err
	}
	if resp.Header.Revision == 1 { // nothing was written
		return nil
	}
	_, err = b.admin.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil
	}
	return err
}
