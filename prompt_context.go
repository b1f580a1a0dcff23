package etcd

import "context"

// promptContext is a context whose Err looks at the clock first: after a pause of the process,
// its caller may run before the timer that ends the context.
type promptContext struct {
	context.Context
	look func()
}

func (c promptContext) Err() error {
	if c.Context.Err() == nil {
		c.look()
	}
	return c.Context.Err()
}
