package etcd

import "fmt"

// SemaphoreOption changes a [Semaphore]: [WithWeight], [WithLockTTL], [WithTryWait],
// [WithSession] and [WithOwner].
type SemaphoreOption interface{ applySemaphore(*semaphoreOptions) }

// semaphoreOptions are what options set.
type semaphoreOptions struct {
	lockOptions
	weight int
}

// check returns why a semaphore of that size can't have the options.
func (o semaphoreOptions) checkWeight(size int) error {
	switch {
	case size < 1:
		return fmt.Errorf("%w: semaphore of size %d", ErrInvalidArgument, size)
	case o.weight < 1:
		return fmt.Errorf("%w: weight %d", ErrInvalidArgument, o.weight)
	case o.weight > size:
		return fmt.Errorf("%w: weight %d in a semaphore of size %d", ErrInvalidArgument, o.weight, size)
	}
	return nil
}

// WithWeight sets how much of the semaphore's size each [Semaphore.Acquire] takes: at least 1,
// and no more than the size, otherwise [Client.NewSemaphore] fails with [ErrInvalidArgument].
// The default is 1. Others may use other weights of the same semaphore.
func WithWeight(w int) SemaphoreOption { return weightOption(w) }

type weightOption int

func (w weightOption) applySemaphore(o *semaphoreOptions) { o.weight = int(w) }
