package etcd

import (
	"context"
	"time"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// firstPatience is how long persist waits for the first answer before it asks elsewhere.
const firstPatience = time.Second

// persist makes requests, by f, until one is answered for good or bad, ctx ends or
// closing is closed. A ctx without a deadline has RequestTimeout for all of them. It is
// for writes that may be repeated, because f can find out whether an earlier one was
// applied.
//
// If there are several endpoints, one that is silent gets a second at first, and then
// twice as long each time, as the cluster may be far away; the next request goes
// elsewhere. None gets more than RequestTimeout.
func (c *conn) persist(ctx context.Context, r request, closing <-chan struct{}, f func(context.Context) error) error {
	return c.withDeadline(ctx, r, func(ctx context.Context) error {
		patience := c.cfg.RequestTimeout
		if c.rpc.HasSeveralEndpoints() {
			ctx, patience = rpc.WithRoute(ctx), min(patience, firstPatience)
		}
		for n := 1; ; n++ {
			bounded, cancel := context.WithTimeout(ctx, patience)
			err := f(bounded)
			cancel()
			if !IsRetryable(err) || rpc.TimeIsUp(ctx) || !rpc.Pause(ctx, closing, rpc.Backoff(n)) {
				return err
			}
			patience = min(2*patience, c.cfg.RequestTimeout)
		}
	})
}
