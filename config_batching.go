package etcd

import "errors"

// DefaultBatchInFlight is how many requests of a kind are under way before others wait for
// them. With four, up to four callers are as fast as without batching, and 1,024 callers
// faster than with two (docs/performance.md).
const DefaultBatchInFlight = 4

// BatchOption changes [Config.WithBatching]: [WithBatchInFlight].
type BatchOption interface{ applyBatch(*Config) }

type batchOption func(*Config)

func (f batchOption) applyBatch(c *Config) { f(c) }

// WithBatchInFlight sets BatchInFlight: 1 or more. More are for clusters that are far away,
// where a caller would wait for a round trip that is none of its own.
func WithBatchInFlight(n int) BatchOption {
	return batchOption(func(c *Config) {
		c.BatchInFlight = n
		c.badBatch = c.badBatch || n < 1
	})
}

// WithBatching has concurrent requests about single keys travel together, which makes a
// client with many callers several times as fast, and costs the server less. They are
// [Client.Put], [Client.Get], [Client.GetKV], [Client.GetWithRevision], [Client.Exists] and
// [Client.Delete] and, of a client that doesn't say to the server who it is, the comparisons by
// revision, [Client.PutIfNotExists], puts and deletions [WithCondition], and [Client.BulkPut]
// and [Client.BulkDelete] of up to 16 keys. With credentials or a client certificate these
// go by themselves, and so do puts with a lease or [WithPrevKV]: some servers of etcd 3.4 and
// 3.5 don't check such operations inside a transaction for what the user may do.
//
// Nothing waits for a batch to fill up. A request goes by itself as long as fewer than
// BatchInFlight of its kind are under way and none waits; those that come meanwhile share one
// transaction of up to 128 reads or 112 writes. Where so many meet that most requests share
// one, the next goes when the one under way is answered, or when a quarter of a batch waits.
// Nobody waits for longer than 25 milliseconds for what is held up. Puts, deletions,
// linearizable reads, serializable ones and reads at a revision are kinds of their own. What
// sends more than 16 KiB travels by itself, and so does a request that has less than a quarter
// of a second left, or whose context holds outgoing gRPC metadata, and all reads for a second
// after one that met others has brought a value of more than 64 KiB.
//
// Each call has the result, the deadline, the kind of error and the hooks that it would have by
// itself. If the server refuses one of a batch, nothing of it was applied, and each goes
// again by itself. If the answer to a batch is lost, [MaybeApplied] is true of all its
// writes, and [Client.Settle] tells of each. A caller whose context ends leaves at once, and
// takes a request along that was not sent. Two writes of one key are never in the same batch,
// and go in the order in which they came if both wait, unless most of those that wait, and
// more than four, are behind others on the same keys: then these go by themselves. As without
// batching, nothing orders calls that are under way at the same time. Writes of different keys
// may get the same revision, and a watch sees them as one change of the store.
//
// It is off by default: a request that comes while others are under way may wait for them, for
// a round trip or, if they are held up, 25 milliseconds.
func (c *Config) WithBatching(opts ...BatchOption) *Config {
	c.Batching = true
	for _, opt := range opts {
		if opt == nil {
			c.badBatch = true
			continue
		}
		opt.applyBatch(c)
	}
	return c
}

func checkBatching(c *Config) error {
	if c.badBatch {
		return errors.New("a nil option, or WithBatchInFlight of less than 1")
	}
	return nil
}
