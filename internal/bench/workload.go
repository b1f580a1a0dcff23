package main

import (
	"context"
	"fmt"
)

// workload is one kind of work. A further one is an entry of workloads.
type workload struct {
	name  string
	about string // what one call is, for readers
	unit  string // what is counted
	// can reports whether a client has the calls that it needs.
	can func(c *client) bool
	// values is how many a call holds, which bounds the number of callers. 0 means one.
	values int
	// prepare stores what is read, once for each size of values. It may be nil.
	prepare func(ctx context.Context, s *site) error
	// begin returns the callers, and what gives up what they need, or nil. ctx ends with
	// the turn.
	begin func(ctx context.Context, s *site) (callers []caller, done func() error, err error)
	// coupled says that callers wait for one another, so that the end of ctx has to end
	// their calls.
	coupled bool
}

func (w workload) called() string { return w.name }

// caller makes one call and returns how many of the unit it was. One goroutine uses it.
type caller func(ctx context.Context) (int, error)

// site is where a workload takes place: the client, its keys, and what the cell says.
type site struct {
	client  *client
	prefix  string // of the contender and the size of values
	callers int
	value   value
	single  []string // the keys of put, get and their like: one for each caller, or more
}

func newSite(c *client, prefix string, callers, value int) *site {
	single := keysOf(prefix+singlePrefix, max(singleKeys, callers))
	return &site{client: c, prefix: prefix, callers: callers, value: newValue(value), single: single}
}

const (
	singleKeys = 1024 // that are read
	listKeys   = 100
	scanKeys   = 1000
	bulkKeys   = 100
	watchKeys  = 16 // of one transaction
)

// mostBytes is how much may be under way at once: what takes longer than a turn tells
// nothing.
const mostBytes = 32 << 20

// room returns how many callers may run at once with values of that size.
func (w workload) room(value int) int { return mostBytes / (max(1, w.values) * value) }

var workloads = []workload{
	{
		name: "put", about: "put of one key", unit: "put",
		can:   func(c *client) bool { return c.put != nil },
		begin: everyCaller(putter),
	},
	{
		name: "get", about: "linearizable get of one key", unit: "get",
		can:     func(c *client) bool { return c.get != nil },
		prepare: storeSingleKeys, begin: everyCaller(getter),
	},
	{
		name: "mixed", about: "nine gets to one put", unit: "request",
		can:     func(c *client) bool { return c.get != nil && c.put != nil },
		prepare: storeSingleKeys, begin: everyCaller(mixer),
	},
	{
		name: "cas", about: "swap of one key by its revision", unit: "swap",
		can:     func(c *client) bool { return c.swap != nil },
		prepare: storeSingleKeys, begin: everyCaller(swapper),
	},
	{
		name: "list", about: fmt.Sprintf("list of %d keys with their values", listKeys), unit: "list", values: listKeys,
		can:     func(c *client) bool { return c.list != nil },
		prepare: storing("list/", listKeys), begin: everyCaller(lister),
	},
	{
		name: "keys", about: fmt.Sprintf("list of %d keys without their values", listKeys), unit: "list",
		can:     func(c *client) bool { return c.keys != nil },
		prepare: storing("list/", listKeys), begin: everyCaller(keyLister),
	},
	{
		name: "scan", about: fmt.Sprintf("scan of %d keys with their values", scanKeys), unit: "key", values: scanKeys,
		can:     func(c *client) bool { return c.scan != nil },
		prepare: storing("scan/", scanKeys), begin: everyCaller(scanner),
	},
	{
		name: "watch", about: fmt.Sprintf("%d events to the watch of every caller", watchKeys), unit: "event", values: watchKeys,
		can:   func(c *client) bool { return c.watch != nil && c.bulk != nil },
		begin: beginWatches, coupled: true,
	},
	{
		name: "event", about: "put of one key, until its event has come", unit: "event",
		can:   func(c *client) bool { return c.watch != nil && c.bulk != nil },
		begin: beginEvents, coupled: true,
	},
	{
		name: "event beside", about: "the same while somebody else writes other keys", unit: "event",
		can:   func(c *client) bool { return c.watch != nil && c.bulk != nil },
		begin: beginEventsBeside, coupled: true,
	},
	{
		name: "lock", about: "taking and releasing a lock that is kept", unit: "lock",
		can:   func(c *client) bool { return c.lock != nil },
		begin: beginLocks,
	},
	{
		name: "withlock", about: "taking and releasing a lock with its lease", unit: "lock",
		can:   func(c *client) bool { return c.withLock != nil },
		begin: everyCaller(locker),
	},
	{
		name: "bulk", about: fmt.Sprintf("put of %d keys in one transaction", bulkKeys), unit: "key", values: bulkKeys,
		can:   func(c *client) bool { return c.bulk != nil && c.list != nil }, // it is all of a contender, and not for preparation
		begin: everyCaller(bulkPutter),
	},
}

// everyCaller returns a begin that makes the callers one by one.
func everyCaller(make func(s *site, i int) caller) func(context.Context, *site) ([]caller, func() error, error) {
	return func(_ context.Context, s *site) ([]caller, func() error, error) {
		var all []caller
		for i := range s.callers {
			all = append(all, make(s, i))
		}
		return all, nil, nil
	}
}

// keysOf returns n names of keys.
func keysOf(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%05d", prefix, i)
	}
	return all
}

// newValue returns one of n bytes.
func newValue(n int) value {
	v := value{bytes: make([]byte, n)}
	for i := range v.bytes {
		v.bytes[i] = byte(i*i*31 + i>>3)
	}
	v.text = string(v.bytes)
	return v
}

func newBatch(keys []string, v value) batch {
	b := batch{kvs: map[string][]byte{}, v: v}
	for _, key := range keys {
		b.kvs[key] = v.bytes
	}
	return b
}

// storing returns a prepare that stores keys under a prefix.
func storing(under string, n int) func(ctx context.Context, s *site) error {
	return func(ctx context.Context, s *site) error {
		keys := keysOf(s.prefix+under, n)
		for len(keys) > 0 {
			chunk := keys[:min(len(keys), bulkKeys)]
			if err := s.client.bulk(ctx, newBatch(chunk, s.value)); err != nil {
				return err
			}
			keys = keys[len(chunk):]
		}
		return nil
	}
}

// checkCount makes an answer that lacks keys an error.
func checkCount(n, want int, err error) error {
	if err == nil && n != want {
		err = fmt.Errorf("%d keys instead of %d", n, want)
	}
	return err
}
