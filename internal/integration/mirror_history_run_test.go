package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/blueprint-go/etcd"
)

// historyReaders begins readers of every kind.
func (r *historyRun) historyReaders() {
	all := func(fact) bool { return true }
	watch := func(prefix string, opts ...etcd.WatchOption) func(ctx context.Context, from int64) etcd.WatchChan {
		return func(ctx context.Context, from int64) etcd.WatchChan {
			return r.reader.WatchPrefix(ctx, prefix, append([]etcd.WatchOption{etcd.WithRevision(from)}, opts...)...)
		}
	}
	group, key := r.prefix+"00/", r.prefix+"00/00"
	r.watch(&watchReader{account: watchAccount{name: "all", mine: all, prev: true}, open: watch(r.prefix, etcd.WithPrevKV()), record: true})
	r.watch(&watchReader{account: watchAccount{name: "progress", mine: all}, open: watch(r.prefix, etcd.WithProgressNotify(), etcd.WithWatchStatus()), record: true})
	r.watch(&watchReader{account: watchAccount{name: "slow", mine: all, prev: true}, open: watch(r.prefix, etcd.WithPrevKV()), slow: true, record: true})
	r.watch(&watchReader{account: watchAccount{name: "restless", mine: all, prev: true}, open: watch(r.prefix, etcd.WithPrevKV()), restless: true, record: true})
	r.watch(&watchReader{
		account:   watchAccount{name: "deletions", mine: func(f fact) bool { return !f.Now.exists() }},
		open:      watch(r.prefix, etcd.WithOnly(etcd.EventDelete)),
		deletions: true,
	})
	r.watch(&watchReader{account: watchAccount{name: "group", mine: func(f fact) bool { return strings.HasPrefix(f.Key, group) }}, open: watch(group)})
	r.watch(&watchReader{account: watchAccount{name: "key", mine: func(f fact) bool { return f.Key == key }}, open: func(ctx context.Context, from int64) etcd.WatchChan {
		return r.reader.Watch(ctx, key, etcd.WithRevision(from), etcd.WithProgressNotify())
	}})
	r.watch(&watchReader{account: watchAccount{name: "resync", mine: all, prev: true}, open: watch(r.prefix, etcd.WithPrevKV(), etcd.WithResync())})
	from, to := r.prefix+"05/", r.prefix+"08/"
	r.watch(&watchReader{
		account: watchAccount{name: "range", mine: func(f fact) bool { return f.Key >= from && f.Key < to }},
		open: func(ctx context.Context, rev int64) etcd.WatchChan {
			return r.reader.WatchRange(ctx, from, to, etcd.WithRevision(rev), etcd.WithResync())
		},
	})
	r.mirror(r.reader, "mirror of all", r.prefix)
	r.mirror(r.reader, "mirror of a group", group)
}

// `make test-long RUN=TestLongMillionEvents` tells a million of them.
func TestWatchesAndMirrorsTellTheTruthThroughFaults(t *testing.T) {
	t.Parallel()
	r := newHistoryRun(t, newCluster(t), func(c *etcd.Config) *etcd.Config { return c.WithEncryption(testKey) })
	r.historyReaders()
	began := time.Now()
	r.round(0, 20_000)
	r.log(time.Since(began))
}

func (r *historyRun) log(took time.Duration) {
	gaps, told := 0, 0
	for _, w := range r.watches {
		r.t.Logf("watch of %s: %d changes, %d gaps named", w.account.name, w.account.told, w.account.gaps)
		gaps, told = gaps+w.account.gaps, told+w.account.told
	}
	for _, run := range r.mirrors {
		for _, a := range run.accounts {
			r.t.Logf("changes of %s: %d, %d resyncs", a.name, a.told, a.resyncs)
			told += a.told
		}
	}
	for _, run := range r.mirrors {
		r.t.Logf("%s: fresh %d times, %+v", run.name, run.fresh.Load(), run.m.Status())
	}
	r.t.Logf("%d snapshots equal", r.contents)
	r.t.Logf("%d changes in %v, told %d times, %d compactions survived", r.events, took.Round(time.Millisecond), told, gaps)
}
