package integration

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

// mirrorRun is a mirror under faults, with readers of its changes and of its contents.
type mirrorRun struct {
	name     string
	prefix   string
	m        *mirror.Mirror
	accounts []*changesAccount
	fresh    atomic.Int64 // how often it was

	// Guarded by the truth's lock.
	contents []content
	wrong    []string
}

// mirror opens a mirror and begins a quick and a slow reader of its changes, and one that
// takes snapshots.
func (r *historyRun) mirror(c *etcd.Client, name, prefix string) {
	r.t.Helper()
	m, err := mirror.Open(within(r.t, busyTimeout), c, prefix)
	require.NoError(r.t, err)
	r.t.Cleanup(m.Close)
	run := &mirrorRun{name: name, prefix: prefix, m: m}
	r.mirrors = append(r.mirrors, run)
	r.changes(run, "quick", false, mirror.WithChangesBuffer(1<<30))
	r.changes(run, "slow", true, mirror.WithChangesBuffer(16<<10))
	r.reading.Go(func() { r.snapshots(run) })
	r.reading.Go(func() { r.freshen(run) })
}

// freshen holds that a mirror which says that it is fresh holds all that was acknowledged
// before it was asked.
func (r *historyRun) freshen(run *mirrorRun) {
	for {
		known, _ := r.truth.last()
		if !r.truth.reached(r.ctx, known+5) {
			return
		}
		promised := r.truth.promised()
		ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
		err := run.m.Fresh(ctx)
		if err == nil {
			run.fresh.Add(1)
			if is := run.m.Revision(); is < promised {
				r.complain(run, "%s: fresh at %d, and %d was acknowledged", run.name, is, promised)
			}
		}
		cancel()
	}
}

func (r *historyRun) changes(run *mirrorRun, name string, slow bool, opts ...mirror.ChangesOption) {
	a := &changesAccount{name: run.name + ", " + name, mine: ofPrefix(run.prefix), lossy: slow, position: run.m.Revision()}
	run.accounts = append(run.accounts, a)
	changes := run.m.Changes(r.ctx, opts...)
	r.reading.Go(func() {
		for c := range changes {
			if c.Type == mirror.Ended || !r.truth.reached(r.ctx, c.Revision) {
				return
			}
			// What a reader is told, reads include.
			if seen := run.m.Revision(); seen < c.Revision {
				r.complain(run, "%s: told of %d, and reads are of %d", a.name, c.Revision, seen)
			}
			a.add(r.truth, c)
			if slow && !c.More && !r.linger(c.Revision+200) {
				return
			}
		}
	})
}

func (r *historyRun) complain(run *mirrorRun, format string, args ...any) {
	r.truth.mu.Lock()
	defer r.truth.mu.Unlock()
	run.wrong = append(run.wrong, fmt.Sprintf(format, args...))
}

// snapshots takes one now and then, and holds that none is older than the one before.
func (r *historyRun) snapshots(run *mirrorRun) {
	last := int64(0)
	for {
		known, _ := r.truth.last()
		if !r.truth.reached(r.ctx, known+20) {
			return
		}
		s := run.m.Snapshot()
		if s.Revision() < last {
			r.complain(run, "%s: revision %d after %d", run.name, s.Revision(), last)
		}
		last = s.Revision()
		c := contentOf(s.Revision(), s.All())
		if len(c.keys) != s.Len() {
			r.complain(run, "%s: %d keys at %d, and says %d", run.name, len(c.keys), s.Revision(), s.Len())
		}
		r.truth.mu.Lock()
		run.contents = append(run.contents, c)
		r.truth.mu.Unlock()
	}
}

// checkMirrors holds all mirrors against the truth, and against the server at the end.
func (r *historyRun) checkMirrors() (wrong []string) {
	r.t.Helper()
	for _, run := range r.mirrors {
		require.NoError(r.t, run.m.Fresh(within(r.t, patience)), run.name)
		for _, a := range run.accounts {
			wrong = append(wrong, a.violations(r.truth)...)
		}
		now := run.m.Snapshot()
		r.truth.mu.Lock()
		contents := slices.Concat(run.contents, []content{contentOf(now.Revision(), now.All())})
		run.contents = nil
		wrong = append(wrong, run.wrong...)
		r.truth.mu.Unlock()
		wrong = append(wrong, r.truth.checkContents(run.name, ofPrefix(run.prefix), contents)...)
		got, err := r.direct.Range(within(r.t, busyTimeout), run.prefix, etcd.WithRevision(now.Revision()))
		require.NoError(r.t, err)
		server := map[string]holding{}
		for _, kv := range got.KVs {
			server[kv.Key] = holdingOf(kv)
		}
		wrong = append(wrong, differ(run.name+" beside the server", now.Revision(), server, contentOf(0, now.All()).keys)...)
		if last, _ := r.truth.last(); now.Revision() < last {
			wrong = append(wrong, fmt.Sprintf("%s: Fresh ended at %d of %d", run.name, now.Revision(), last))
		}
		r.contents += len(contents)
	}
	return wrong
}
