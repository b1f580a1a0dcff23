package etcd

import (
	"context"
	"errors"

	"github.com/blueprint-go/etcd/internal/keys"
)

// sleep waits until the key ahead is deleted, a leader names the candidate its successor, or it is
// time to look again; both count from a revision on.
func (c *candidacy) sleep(ctx context.Context, ahead []byte, from int64) error {
	client := c.election.client
	return untilLate(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		gone, err := client.watchClaim(ctx, ahead, watchOptions{noPut: true, revision: from})
		if err != nil {
			return ofCall(c.op, c.election.name, err)
		}
		named, err := client.watchClaim(ctx, c.successor, watchOptions{noDelete: true, revision: from})
		if err != nil {
			return ofCall(c.op, c.election.name, err)
		}
		var woken WatchResponse
		select {
		case woken = <-gone:
		case woken = <-named:
		}
		if err := woken.Err(); !errors.Is(err, ErrCompacted) {
			return ofCall(c.op, c.election.name, err)
		}
		return nil // look again
	})
}

// watchClaim watches a key, as stored, of the library's own, from a revision on. The channel is
// closed when ctx ends.
func (c *Client) watchClaim(ctx context.Context, stored []byte, o watchOptions) (<-chan WatchResponse, error) {
	return c.watchClaims(ctx, keys.Range{Start: stored}, o)
}

// watchClaims is watchClaim for a range.
func (c *Client) watchClaims(ctx context.Context, claims keys.Range, o watchOptions) (<-chan WatchResponse, error) {
	w := c.claimWatcher(claims, o.revision, o)
	if o.raw { // for a caller
		w.told = c.newWatchStatus(watchSubject{key: w.key})
	}
	out := make(chan WatchResponse, 1)
	return out, w.begin(ctx, out)
}
