package live

import (
	"context"
	"errors"
	"time"

	"github.com/blueprint-go/etcd"
)

// run judges what comes from etcd, until the value ends. It is the only goroutine that
// takes configurations then. f is nil if etcd was not reached yet; late is a trial that
// was not waited for.
func (v *Value[T]) run(f *feed, late *trial[T]) {
	defer v.end()
	if f == nil {
		if f = v.reach(); f == nil {
			return
		}
	}
	v.tasks.Go(func() { v.follow(f) })
	j := &judge[T]{value: v, backlog: f.backlog, late: late, unsaved: f.unsaved}
	j.run()
}

// reach tries to reach etcd until it succeeds; nil means that the value has ended.
func (v *Value[T]) reach() *feed {
	for pause := firstPause; wait(v.ctx, pause); pause = min(2*pause, longestPause) {
		first, revisions, err := v.connect(v.ctx)
		switch {
		case err == nil:
			return &feed{backlog: newBacklog(first, false), revisions: revisions}
		case errors.Is(err, etcd.ErrClosed):
			v.cancel(err) // the client
			return nil
		}
		v.missing(err)
	}
	return nil
}

// follow passes revisions on, until their source ends.
func (v *Value[T]) follow(f *feed) {
	for r := range f.revisions {
		f.backlog.add(r.number, r.changes, v.settings.debounce > 0)
	}
	v.cancel(etcd.ErrClosed) // the client was closed, unless the value was
}

// judge takes good configurations and refuses bad ones.
type judge[T any] struct {
	value   *Value[T]
	backlog *backlog
	late    *trial[T] // one that wasn't over in time; while it lasts, none else begins

	quiet      *time.Timer // ends a debounce
	quietUntil time.Time   // the latest end of it; zero if there is none

	unsaved      *state // was taken and isn't in the file
	unsavedSince time.Time
	again        *time.Timer // saves again
	againAfter   time.Duration
}

func (j *judge[T]) run() {
	v := j.value
	j.quiet, j.again = stopped(), stopped()
	defer j.quiet.Stop()
	defer j.again.Stop()
	if j.unsaved != nil {
		j.save()
	}
	for v.ctx.Err() == nil {
		var late chan struct{}
		if j.late != nil {
			late = j.late.done
		}
		select {
		case <-v.ctx.Done():
		case <-j.backlog.arrived:
			if !j.debounced() {
				j.settle()
			}
		case <-j.quiet.C:
			j.quietUntil = time.Time{}
			j.backlog.cut()
			j.settle()
		case <-late:
			t := j.late
			j.late = nil
			j.verdict(t)
			j.settle()
		case <-j.again.C:
			j.save()
		}
	}
	if j.unsaved != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), lastSave)
		defer cancel()
		v.save(ctx, *j.unsaved)
	}
}

// lastSave bounds how long Close waits for a key that is kept elsewhere.
const lastSave = 5 * time.Second

// stopped returns a timer that doesn't run.
func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// debounced reports whether more may belong to what has arrived.
func (j *judge[T]) debounced() bool {
	d := j.value.settings.debounce
	if d == 0 || !j.backlog.isOpen() {
		return false
	}
	now := time.Now()
	if j.quietUntil.IsZero() {
		j.quietUntil = now.Add(maxDebounces * d)
	}
	j.quiet.Reset(min(d, j.quietUntil.Sub(now)))
	return true
}

// maxDebounces is how many times its duration a debounce lasts at most.
const maxDebounces = 10

// settle judges what waits, the newest first: a good one makes those before it void, and
// after a bad one the last good one is among them.
func (j *judge[T]) settle() {
	v := j.value
	for v.ctx.Err() == nil {
		if j.late != nil {
			if revision := j.backlog.newest(); revision != 0 {
				v.refuse(&RejectedError{Revision: revision, Err: ErrValidateTimeout})
			}
			break
		}
		s, ok := j.backlog.next()
		if !ok {
			break
		}
		t := v.builder.begin(s)
		if v.await(v.ctx, t) != nil {
			return
		}
		if !t.isOver() {
			j.late = t
			v.refuse(&RejectedError{Revision: s.revision, Err: ErrValidateTimeout})
			break
		}
		j.verdict(t)
		if j.unsaved != nil && time.Since(j.unsavedSince) > saveWithin {
			j.save()
		}
	}
	j.save()
}

// saveWithin is how long saving may wait for what is newer still.
const saveWithin = time.Second

// verdict notes what a trial has shown.
func (j *judge[T]) verdict(t *trial[T]) {
	v := j.value
	newest := j.backlog.isNewest(t.state)
	refusedAfter := j.backlog.judged(t.state, t.err == nil)
	switch {
	case t.err == nil:
		v.take(t.state.revision, t.value, false)
		if j.unsaved == nil {
			j.unsavedSince = time.Now()
		}
		j.unsaved = &t.state
		if !refusedAfter {
			v.refuse(nil)
		}
	case newest:
		v.refuse(t.err)
	}
}

// save writes what isn't in the file. It tries again later if that fails.
func (j *judge[T]) save() {
	v := j.value
	if v.file == nil || j.unsaved == nil {
		j.unsaved = nil
		return
	}
	if v.save(v.ctx, *j.unsaved) {
		j.unsaved, j.againAfter = nil, 0
		j.again.Stop()
		return
	}
	j.againAfter = min(max(2*j.againAfter, time.Second), time.Minute)
	j.again.Reset(j.againAfter)
}

// save writes a state to the file, if there is one, and reports whether that is done.
func (v *Value[T]) save(ctx context.Context, s state) bool {
	if v.file == nil {
		return true
	}
	err := v.file.write(ctx, s)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fileErr = err
	return err == nil
}

// refuse notes why the newest configuration was not taken; nil if it was.
func (v *Value[T]) refuse(why *RejectedError) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.refused = why; why != nil {
		v.newest = why
		close(v.told)
		v.told = make(chan struct{})
	}
}

// take has readers see a configuration. If it equals the one before, that one stays.
func (v *Value[T]) take(revision int64, value *T, fromFile bool) {
	next := &taken[T]{value: value, revision: revision, fromFile: fromFile, since: time.Now()}
	before := v.current.Load()
	if before != nil && len(differ(v.builder.shape, before.value, value)) == 0 {
		next.value, next.since, next.replaced = before.value, before.since, before.replaced
		v.current.Store(next)
		return
	}
	next.replaced = make(chan struct{})
	v.current.Store(next)
	if before != nil {
		close(before.replaced)
	}
}
