package main

import (
	"context"
	"math/rand/v2"
)

const singlePrefix = "single/"

var storeSingleKeys = storing(singlePrefix, singleKeys)

// ownKeys returns the keys that caller i writes, so that no two callers write the same.
func ownKeys(s *site, i int) []string {
	each := len(s.single) / s.callers
	return s.single[i*each : (i+1)*each]
}

func putter(s *site, i int) caller {
	keys, n := ownKeys(s, i), 0
	return func(ctx context.Context) (int, error) {
		n++
		return 1, s.client.put(ctx, keys[n%len(keys)], s.value)
	}
}

// getter reads keys that others read as well.
func getter(s *site, i int) caller {
	keys := s.single[:singleKeys]
	random := rand.New(rand.NewPCG(1, uint64(i))) //nolint:gosec // the same keys in every round
	return func(ctx context.Context) (int, error) {
		return 1, s.client.get(ctx, keys[random.IntN(len(keys))])
	}
}

func mixer(s *site, i int) caller {
	get, put, n := getter(s, i), putter(s, i), i
	return func(ctx context.Context) (int, error) {
		if n++; n%10 == 0 {
			return put(ctx)
		}
		return get(ctx)
	}
}

// swapper learns the revision of its key by its first call, which is part of the warm-up.
func swapper(s *site, i int) caller {
	key, revision := ownKeys(s, i)[0], int64(0)
	return func(ctx context.Context) (_ int, err error) {
		if revision == 0 {
			revision, err = s.client.revision(ctx, key)
			return 1, err
		}
		revision, err = s.client.swap(ctx, key, revision, s.value)
		return 1, err
	}
}
