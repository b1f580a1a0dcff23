package main

import (
	"context"
	"errors"
	"fmt"
)

func lockName(s *site, i int) string { return fmt.Sprintf("%slock/%04d", s.prefix, i) }

// beginLocks makes a lock for each caller, which nobody else wants.
func beginLocks(ctx context.Context, s *site) (callers []caller, done func() error, err error) {
	var ends []func() error
	done = func() (err error) {
		for _, end := range ends {
			err = errors.Join(err, end())
		}
		return err
	}
	for i := range s.callers {
		once, end, err := s.client.lock(ctx, lockName(s, i))
		if err != nil {
			return nil, nil, errors.Join(err, done())
		}
		ends = append(ends, end)
		callers = append(callers, func(ctx context.Context) (int, error) { return 1, once(ctx) })
	}
	return callers, done, nil
}

func locker(s *site, i int) caller {
	name := lockName(s, i)
	return func(ctx context.Context) (int, error) { return 1, s.client.withLock(ctx, name) }
}
