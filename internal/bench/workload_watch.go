package main

import (
	"context"
	"sync"
)

// beginWatches begins a watch of one prefix for each caller. Again and again the first
// caller writes, and all wait until every watch has delivered what it wrote.
func beginWatches(ctx context.Context, s *site) ([]caller, func() error, error) {
	prefix := s.prefix + "watch/"
	b := newBatch(keysOf(prefix, watchKeys), s.value)
	m := newMeeting(s.callers)
	var all []caller
	for i := range s.callers {
		next, err := s.client.watch(ctx, prefix)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, func(ctx context.Context) (n int, err error) {
			if i == 0 {
				err = s.client.bulk(ctx, b)
			}
			for err == nil && n < watchKeys {
				var more int
				more, err = next()
				n += more
			}
			if err == nil {
				err = m.wait(ctx)
			}
			return n, err
		})
	}
	return all, nil, nil
}

// meeting lets callers go on when all have come, again and again.
type meeting struct {
	size int

	mu   sync.Mutex
	here int
	all  chan struct{} // closed when all are here
}

func newMeeting(size int) *meeting { return &meeting{size: size, all: make(chan struct{})} }

func (m *meeting) wait(ctx context.Context) error {
	m.mu.Lock()
	all := m.all
	if m.here++; m.here == m.size {
		close(all)
		m.here, m.all = 0, make(chan struct{})
	}
	m.mu.Unlock()
	select {
	case <-all:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
