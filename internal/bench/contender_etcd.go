package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

// patience bounds a request. It is long, as 1,024 callers may wait for a slow disk, and
// no request may fail.
const patience = time.Minute

// errNotSwapped would mean that callers share a key.
var errNotSwapped = errors.New("the revision has changed")

// openEtcd returns how this package is opened with further settings.
func openEtcd(settings ...func(*etcd.Config) *etcd.Config) func(endpoints []string) (*client, error) {
	return func(endpoints []string) (*client, error) {
		cfg := etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(patience)
		for _, set := range settings {
			cfg = set(cfg)
		}
		c, err := etcd.NewClient(cfg)
		if err != nil {
			return nil, err
		}
		return clientOfEtcd(c), nil
	}
}

func encrypted(cfg *etcd.Config) *etcd.Config {
	return cfg.WithEncryption(bytes.Repeat([]byte{7}, 32))
}

// openBatched opens this package with batching, for what that changes: requests about single
// keys.
func openBatched(settings ...func(*etcd.Config) *etcd.Config) func(endpoints []string) (*client, error) {
	open := openEtcd(append(settings, func(cfg *etcd.Config) *etcd.Config { return cfg.WithBatching() })...)
	return func(endpoints []string) (*client, error) {
		c, err := open(endpoints)
		if err != nil {
			return nil, err
		}
		return &client{put: c.put, get: c.get, revision: c.revision, swap: c.swap, bulk: c.bulk, close: c.close}, nil
	}
}

func clientOfEtcd(c *etcd.Client) *client {
	return &client{
		put: func(ctx context.Context, key string, v value) error { return c.Put(ctx, key, v.bytes) },
		get: func(ctx context.Context, key string) error {
			_, err := c.Get(ctx, key)
			return err
		},
		revision: func(ctx context.Context, key string) (int64, error) {
			_, revision, err := c.GetWithRevision(ctx, key)
			return revision, err
		},
		swap: func(ctx context.Context, key string, revision int64, v value) (int64, error) {
			var result etcd.WriteResult
			swapped, err := c.CompareAndSwapRevision(ctx, key, revision, v.bytes, etcd.WithResult(&result))
			if err == nil && !swapped {
				err = errNotSwapped
			}
			return result.Revision, err
		},
		list: func(ctx context.Context, prefix string) (int, error) {
			kvs, err := c.GetPrefix(ctx, prefix, 0)
			return len(kvs), err
		},
		keys: func(ctx context.Context, prefix string) (int, error) {
			keys, err := c.List(ctx, prefix)
			return len(keys), err
		},
		scan: func(ctx context.Context, prefix string) (n int, err error) {
			for _, err := range c.Scan(ctx, prefix) {
				if err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		},
		bulk: func(ctx context.Context, b batch) error { return c.BulkPut(ctx, b.kvs) },
		watch: func(ctx context.Context, prefix string) (func() (int, error), error) {
			return eventsOfEtcd(c.WatchPrefix(ctx, prefix)), nil
		},
		lock: func(_ context.Context, name string) (func(ctx context.Context) error, func() error, error) {
			l, err := c.NewLock(name)
			if err != nil {
				return nil, nil, err
			}
			return func(ctx context.Context) error {
				if err := l.Lock(ctx); err != nil {
					return err
				}
				return l.Unlock(ctx)
			}, l.Close, nil
		},
		withLock: func(ctx context.Context, name string) error {
			return c.WithLock(ctx, name, func(context.Context) error { return nil })
		},
		close: c.Close,
	}
}

// eventsOfEtcd returns a function that waits for the next events.
func eventsOfEtcd(responses etcd.WatchChan) func() (int, error) {
	return func() (int, error) {
		r, ok := <-responses
		if !ok {
			return 0, errWatchEnded
		}
		for _, ev := range r.Events {
			if ev.Err != nil {
				return 0, fmt.Errorf("event: %w", ev.Err)
			}
		}
		return len(r.Events), r.Err()
	}
}
