package main

import (
	"context"
	"slices"
)

// baseline is the contender that the others are compared with.
const baseline = "clientv3"

// leasingName is that of clientv3 with its leasing layer, mirrorName that of this package
// with a mirror.
const (
	leasingName = "leasing"
	mirrorName  = "mirror"
)

// contender is one way to use etcd. A further one is an entry of contenders.
type contender struct {
	name      string
	encrypted bool
	batches   bool     // requests of several callers
	only      []string // workloads that it takes part in; nil means all that it can
	open      func(endpoints []string) (*client, error)
}

func (c contender) called() string { return c.name }

// takesPart reports whether it is measured with a workload.
func (c contender) takesPart(w workload) bool {
	return c.only == nil || slices.Contains(c.only, w.name)
}

// contenders are all that are measured. Beside each number that encryption changes stands
// one without it: clientv3 has none, so that all are compared with values as they are.
var contenders = []contender{
	{name: baseline, open: openRaw},
	{name: "etcd", open: openEtcd()},
	{name: "etcd encrypted", encrypted: true, open: openEtcd(encrypted)},
	{name: "etcd batched", batches: true, open: openBatched()},
	{name: "etcd batched encrypted", encrypted: true, batches: true, open: openBatched(encrypted)},
	{name: mirrorName, open: openMirror, only: []string{"get", "watch", "event", "event beside"}},
	{name: leasingName, open: openLeasing, only: []string{"get"}},
}

// client is what a contender can do, nil for what it can't. All but close may be called
// concurrently.
type client struct {
	put func(ctx context.Context, key string, v value) error
	get func(ctx context.Context, key string) error
	// warm gets keys beforehand that are read again and again, where that matters.
	warm func(ctx context.Context, keys []string) error
	// revision returns the mod revision of a key.
	revision func(ctx context.Context, key string) (int64, error)
	// swap replaces a value that is of that revision, and returns the new one.
	swap func(ctx context.Context, key string, revision int64, v value) (int64, error)
	// list, keys and scan read a prefix, at once with values, at once without them and bit
	// by bit, and return the number of keys.
	list func(ctx context.Context, prefix string) (int, error)
	keys func(ctx context.Context, prefix string) (int, error)
	scan func(ctx context.Context, prefix string) (int, error)
	// bulk puts keys in one transaction.
	bulk func(ctx context.Context, b batch) error
	// watch begins to watch a prefix, until ctx ends. What it returns waits for the next
	// events and returns their number.
	watch func(ctx context.Context, prefix string) (next func() (int, error), err error)
	// lock returns a function that takes and releases a lock of that name, and one that
	// gives up what it needs.
	lock func(ctx context.Context, name string) (once func(ctx context.Context) error, done func() error, err error)
	// withLock takes a lock and releases it, and all that it needs.
	withLock func(ctx context.Context, name string) error
	close    func() error
}

// value is one in the forms in which the contenders take it, so that none of them has to
// convert it.
type value struct {
	bytes []byte
	text  string
}

// batch is keys with one value.
type batch struct {
	kvs map[string][]byte
	v   value
}
