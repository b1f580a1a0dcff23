package batch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/blueprint-go/etcd/internal/keys"
)

// Batch is some calls that travel in one transaction.
type Batch[Load any] struct {
	// Calls are in the order in which they came.
	Calls []*Call[Load]

	ctx      context.Context
	cancel   context.CancelFunc
	deadline time.Time
	place    Place

	mu       sync.Mutex
	reason   error         // why the last attempt has failed
	departed bool          // a message that holds the operations was encoded
	waiting  int           // callers
	aboard   []*Call[Load] // whose operations the newest message holds, each once
}

// Context ends at a deadline of the callers, when all of them are gone, or with the client.
func (b *Batch[Load]) Context() context.Context { return b.ctx }

// Encode calls encode with the calls whose callers are not gone, each read once, to make a
// message of them. No caller leaves meanwhile: the operations may hold memory of theirs. It
// does nothing if nobody is there.
func (b *Batch[Load]) Encode(encode func(aboard []*Call[Load])) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.aboard = b.aboard[:0]
	reads := map[string]*Call[Load]{}
	for _, c := range b.Calls {
		c.at = gone
		if c.left {
			continue
		}
		if r := c.Op.GetRequestRange(); r != nil {
			if same := reads[keys.Text(r.Key)]; same != nil && sameRead(same.Op.GetRequestRange(), r) {
				c.at = same.at
				continue
			}
			reads[keys.Text(r.Key)] = c
		}
		c.at = len(b.aboard)
		b.aboard = append(b.aboard, c)
	}
	if len(b.aboard) > 0 {
		b.departed = true
		encode(b.aboard)
	}
}

// gone is the place of a call whose caller had left before the message was made.
const gone = -1

// Place returns the place of the response to c among those to the newest message, -1 if it
// has none, and reports whether it shares that with a call before it, which was the same
// read.
func (b *Batch[Load]) Place(c *Call[Load]) (at int, shares bool) {
	return c.at, c.at >= 0 && b.aboard[c.at] != c
}

// finish wakes the callers.
func (b *Batch[Load]) finish() {
	b.cancel()
	for _, c := range b.Calls {
		c.Companions = len(b.Calls)
		close(c.done)
	}
}

// SendAlone has a call go by itself, instead of answering it.
func (b *Batch[Load]) SendAlone(c *Call[Load]) { c.alone = true }

// leave takes a call out, and reports whether its operation was sent.
func (b *Batch[Load]) leave(c *Call[Load]) (sent bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.left = true
	if b.waiting--; b.waiting == 0 {
		b.cancel()
	}
	return b.departed
}

// endsWith reports whether a batch ends at the deadline of a call.
func (b *Batch[Load]) endsWith(c *Call[Load]) bool { return !b.deadline.After(c.Deadline) }

// Recall notes that what was sent was certainly not applied, and why. It is sent again.
func (b *Batch[Load]) Recall(reason error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.departed, b.reason = false, reason
}

// Reason returns why the last attempt at sending the batch of a call has failed, if one has.
func (c *Call[Load]) Reason() error {
	if c.batch == nil {
		return nil
	}
	c.batch.mu.Lock()
	defer c.batch.mu.Unlock()
	return c.batch.reason
}

// newBatch needs l.mu. A batch of writes lasts as long as any of its callers, and one of reads
// as long as all of them: half of its time decides when it is made once more elsewhere, and
// who has more time goes by itself then.
func (l *Lane[Load]) newBatch(calls []*Call[Load], place Place) *Batch[Load] {
	b := &Batch[Load]{Calls: calls, place: place, waiting: len(calls)}
	byDeadline := func(a, b *Call[Load]) int { return a.Deadline.Compare(b.Deadline) }
	b.deadline = slices.MaxFunc(calls, byDeadline).Deadline
	if !l.exclusive {
		b.deadline = slices.MinFunc(calls, byDeadline).Deadline
	}
	b.ctx, b.cancel = context.WithDeadline(l.life, b.deadline) //nolint:gosec // finish calls it
	for _, c := range calls {
		c.batch = b
	}
	return b
}
