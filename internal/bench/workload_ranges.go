package main

import (
	"context"
	"fmt"
)

func lister(s *site, _ int) caller {
	prefix := s.prefix + "list/"
	return func(ctx context.Context) (int, error) {
		n, err := s.client.list(ctx, prefix)
		return 1, checkCount(n, listKeys, err)
	}
}

func keyLister(s *site, _ int) caller {
	prefix := s.prefix + "list/"
	return func(ctx context.Context) (int, error) {
		n, err := s.client.keys(ctx, prefix)
		return 1, checkCount(n, listKeys, err)
	}
}

func scanner(s *site, _ int) caller {
	prefix := s.prefix + "scan/"
	return func(ctx context.Context) (int, error) {
		n, err := s.client.scan(ctx, prefix)
		return n, checkCount(n, scanKeys, err)
	}
}

func bulkPutter(s *site, i int) caller {
	b := newBatch(keysOf(fmt.Sprintf("%sbulk/%04d/", s.prefix, i), bulkKeys), s.value)
	return func(ctx context.Context) (int, error) {
		return bulkKeys, s.client.bulk(ctx, b)
	}
}
