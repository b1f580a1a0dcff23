package main

import (
	"context"
	"fmt"
	"sync"
)

// beginEvents has each caller put a key and wait for the event of it.
func beginEvents(ctx context.Context, s *site) (all []caller, done func() error, err error) {
	for i := range s.callers {
		key := fmt.Sprintf("%sevent/%05d/key", s.prefix, i)
		next, err := s.client.watch(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		b := newBatch([]string{key}, s.value)
		all = append(all, func(ctx context.Context) (int, error) {
			if err := s.client.bulk(ctx, b); err != nil {
				return 0, err
			}
			return next()
		})
	}
	return all, nil, nil
}

// beginEventsBeside is the same while one more caller puts other keys all the time.
func beginEventsBeside(ctx context.Context, s *site) ([]caller, func() error, error) {
	all, _, err := beginEvents(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var writing sync.WaitGroup
	var failed error
	b := newBatch([]string{s.prefix + "elsewhere"}, s.value)
	writing.Go(func() {
		for ctx.Err() == nil {
			if err := s.client.bulk(ctx, b); err != nil && ctx.Err() == nil {
				failed = err
				return
			}
		}
	})
	return all, func() error {
		cancel()
		writing.Wait()
		return failed
	}, nil
}
