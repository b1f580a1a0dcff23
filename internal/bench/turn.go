package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A call that takes longer than longestCall counts as that long. Times have an error
// of at most 1 %.
const (
	longestCall = 2 * time.Minute
	digits      = 2
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longestCall.Nanoseconds(), digits)
}

// turn is one contender at work for a while.
type turn struct {
	site     *site
	workload workload
	cluster  *cluster
	warmUp   time.Duration
	duration time.Duration
	times    *times // where the calls' times go
}

// worked is what a turn came to.
type worked struct {
	spending
	calls, units int64 // that ended in the time
}

// times are the histograms of callers, kept from turn to turn as they are large.
type times struct{ of []*hdrhistogram.Histogram }

func (t *times) reset(callers int) {
	for _, h := range t.of {
		h.Reset()
	}
	for len(t.of) < callers {
		t.of = append(t.of, newHistogram())
	}
}

func (t *times) mergeInto(all *hdrhistogram.Histogram) error {
	for _, h := range t.of {
		if dropped := all.Merge(h); dropped > 0 {
			return fmt.Errorf("%d calls took longer than %v", dropped, longestCall)
		}
	}
	return nil
}

// phases of a turn.
const (
	warming int32 = iota
	counting
	ending
)

// crew is the callers of a turn, each a goroutine.
type crew struct {
	phase  atomic.Int32
	counts []count
	failed chan error // of the first that has failed
	wait   sync.WaitGroup
}

// count is what one caller has done, on a cache line of its own.
type count struct {
	calls, units atomic.Int64
	_            [48]byte
}

// take lets the callers work, and returns what they did in the time between the
// warm-up and the end. Calls that were under way then are waited for and not counted.
func (t *turn) take(ctx context.Context) (w worked, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	callers, done, err := t.workload.begin(ctx, t.site)
	if err != nil {
		return w, err
	}
	if done != nil {
		defer func() { err = errors.Join(err, done()) }()
	}
	t.times.reset(len(callers))
	runtime.GC() // the garbage of the one before is not this one's to collect
	c := &crew{counts: make([]count, len(callers)), failed: make(chan error, 1)}
	for i, call := range callers {
		c.wait.Go(func() { c.work(ctx, call, &c.counts[i], t.times.of[i]) })
	}
	w, err = c.observe(ctx, t)
	c.phase.Store(ending)
	if err != nil || t.workload.coupled {
		cancel()
	}
	c.wait.Wait()
	if err == nil {
		select {
		case err = <-c.failed: // while the last calls were waited for
		default:
		}
	}
	return w, err
}

// work makes one call after another.
func (c *crew) work(ctx context.Context, call caller, n *count, times *hdrhistogram.Histogram) {
	for {
		phase, began := c.phase.Load(), time.Now()
		if phase == ending {
			return
		}
		units, err := call(ctx)
		if err != nil {
			if ctx.Err() == nil {
				select {
				case c.failed <- err:
				default: // another one was first
				}
			}
			return
		}
		n.calls.Add(1)
		n.units.Add(int64(units))
		if phase == counting {
			// A time out of range counts as the longest.
			_ = times.RecordValue(min(time.Since(began), longestCall).Nanoseconds())
		}
	}
}

// observe returns what the callers do in the time of a turn.
func (c *crew) observe(ctx context.Context, t *turn) (w worked, err error) {
	if err := c.pass(ctx, t.warmUp); err != nil {
		return w, err
	}
	before, err := spent(t.cluster)
	if err != nil {
		return w, err
	}
	calls, units := c.sum()
	c.phase.Store(counting)
	err = c.pass(ctx, t.duration)
	if err != nil {
		return w, err
	}
	w.calls, w.units = c.sum()
	w.calls, w.units = w.calls-calls, w.units-units
	after, err := spent(t.cluster)
	w.spending = after.since(before)
	return w, err
}

// pass lets time pass, at least until as many calls have ended as there are callers:
// what is counted of calls that take as long as the time would be chance.
func (c *crew) pass(ctx context.Context, d time.Duration) error {
	ticks := time.NewTicker(d)
	defer ticks.Stop()
	began, _ := c.sum()
	for {
		select {
		case <-ticks.C:
			if calls, _ := c.sum(); calls-began >= int64(len(c.counts)) {
				return nil
			}
		case err := <-c.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sum returns what all callers have done.
func (c *crew) sum() (calls, units int64) {
	for i := range c.counts {
		calls += c.counts[i].calls.Load()
		units += c.counts[i].units.Load()
	}
	return calls, units
}
