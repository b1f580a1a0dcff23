package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.uber.org/zap"
)

// rawPage is what a careful user of clientv3 reads at a time.
const rawPage = 1000

// leasingPrefixes counts those that were used: the keys of one that was closed may still
// be there.
var leasingPrefixes atomic.Int64

// errWatchEnded would mean that a watch ended before its context.
var errWatchEnded = errors.New("the watch has ended")

func dialRaw(endpoints []string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: patience, Logger: zap.NewNop()})
}

func openRaw(endpoints []string) (*client, error) {
	c, err := dialRaw(endpoints)
	if err != nil {
		return nil, err
	}
	raw := &client{get: getOfKV(c), bulk: bulkOfRaw(c), close: c.Close}
	raw.put = func(ctx context.Context, key string, v value) error {
		_, err := c.Put(ctx, key, v.text)
		return err
	}
	raw.revision = func(ctx context.Context, key string) (int64, error) {
		resp, err := c.Get(ctx, key)
		if err != nil || len(resp.Kvs) == 0 {
			return 0, err
		}
		return resp.Kvs[0].ModRevision, nil
	}
	raw.swap = func(ctx context.Context, key string, revision int64, v value) (int64, error) {
		resp, err := c.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
			Then(clientv3.OpPut(key, v.text)).
			Commit()
		if err != nil {
			return 0, err
		}
		if !resp.Succeeded {
			return 0, errNotSwapped
		}
		return resp.Header.Revision, nil
	}
	raw.list = func(ctx context.Context, prefix string) (int, error) { return countRaw(ctx, c, prefix) }
	raw.keys = func(ctx context.Context, prefix string) (int, error) {
		return countRaw(ctx, c, prefix, clientv3.WithKeysOnly())
	}
	raw.scan = func(ctx context.Context, prefix string) (int, error) { return scanRaw(ctx, c, prefix) }
	raw.watch = func(ctx context.Context, prefix string) (func() (int, error), error) {
		responses := c.Watch(ctx, prefix, clientv3.WithPrefix())
		return func() (int, error) {
			r, ok := <-responses
			if !ok {
				return 0, errWatchEnded
			}
			return len(r.Events), r.Err()
		}, nil
	}
	raw.lock = func(_ context.Context, name string) (func(ctx context.Context) error, func() error, error) {
		s, err := concurrency.NewSession(c)
		if err != nil {
			return nil, nil, err
		}
		m := concurrency.NewMutex(s, name)
		return func(ctx context.Context) error { return lockRaw(ctx, m) }, s.Close, nil
	}
	raw.withLock = func(ctx context.Context, name string) error {
		s, err := concurrency.NewSession(c)
		if err != nil {
			return err
		}
		return errors.Join(lockRaw(ctx, concurrency.NewMutex(s, name)), s.Close())
	}
	return raw, nil
}

// getOfKV returns a get of a client or of a layer on top of one.
func getOfKV(kv clientv3.KV) func(ctx context.Context, key string) error {
	return func(ctx context.Context, key string) error {
		resp, err := kv.Get(ctx, key)
		if err == nil && len(resp.Kvs) == 0 {
			err = errors.New("the key is missing")
		}
		return err
	}
}

func bulkOfRaw(c *clientv3.Client) func(ctx context.Context, b batch) error {
	return func(ctx context.Context, b batch) error {
		ops := make([]clientv3.Op, 0, len(b.kvs))
		for key := range b.kvs {
			ops = append(ops, clientv3.OpPut(key, b.v.text))
		}
		_, err := c.Txn(ctx).Then(ops...).Commit()
		return err
	}
}

// openLeasing opens clientv3 with its leasing layer, which answers repeated gets itself.
// It only reads: puts of keys that it leases cost it two to three times as much as
// without it, and stop now and then.
func openLeasing(endpoints []string) (*client, error) {
	c, err := dialRaw(endpoints)
	if err != nil {
		return nil, err
	}
	prefix := fmt.Sprintf("/bench-leasing/%d/", leasingPrefixes.Add(1))
	kv, closeKV, err := leasing.NewKV(c, prefix)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	get := getOfKV(kv)
	return &client{
		get: get, bulk: bulkOfRaw(c),
		warm: func(ctx context.Context, keys []string) error { return getAll(ctx, get, keys) },
		close: func() error {
			closeKV()
			return c.Close()
		},
	}, nil
}

// getAll gets keys, many at once.
func getAll(ctx context.Context, get func(ctx context.Context, key string) error, keys []string) error {
	const callers = 32
	errs := make([]error, callers)
	var wait sync.WaitGroup
	for i := range callers {
		wait.Go(func() {
			for at := i; at < len(keys) && errs[i] == nil; at += callers {
				errs[i] = get(ctx, keys[at])
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func countRaw(ctx context.Context, c *clientv3.Client, prefix string, opts ...clientv3.OpOption) (int, error) {
	resp, err := c.Get(ctx, prefix, append(opts, clientv3.WithPrefix())...)
	if err != nil {
		return 0, err
	}
	return len(resp.Kvs), nil
}

// scanRaw reads page after page at the revision of the first.
func scanRaw(ctx context.Context, c *clientv3.Client, prefix string) (n int, err error) {
	key, end, revision := prefix, clientv3.GetPrefixRangeEnd(prefix), int64(0)
	for {
		resp, err := c.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(rawPage), clientv3.WithRev(revision))
		if err != nil {
			return n, err
		}
		n += len(resp.Kvs)
		if !resp.More {
			return n, nil
		}
		key, revision = string(resp.Kvs[len(resp.Kvs)-1].Key)+"\x00", resp.Header.Revision
	}
}

func lockRaw(ctx context.Context, m *concurrency.Mutex) error {
	if err := m.Lock(ctx); err != nil {
		return err
	}
	return m.Unlock(ctx)
}
