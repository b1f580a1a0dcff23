package main

import (
	"context"
	"errors"
	"strings"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

// openMirror opens this package with a mirror of what is read. Its gets are as linearizable
// as the others', which a mirror would not take a request for otherwise.
func openMirror(endpoints []string) (*client, error) {
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(patience))
	if err != nil {
		return nil, err
	}
	all, plain := &mirrors{client: c}, clientOfEtcd(c)
	return &client{
		bulk: plain.bulk, get: all.get, watch: all.watch,
		warm: func(ctx context.Context, keys []string) (err error) {
			prefix, _, _ := strings.Cut(keys[0], singlePrefix)
			all.read, err = mirror.Open(ctx, c, prefix+singlePrefix)
			return err
		},
		close: c.Close, // which ends the mirrors
	}, nil
}

// mirrors are those of a client.
type mirrors struct {
	client *etcd.Client
	read   *mirror.Mirror // of what is read
}

func (m *mirrors) get(ctx context.Context, key string) error {
	if err := m.read.Fresh(ctx); err != nil {
		return err
	}
	if _, ok := m.read.Get(key); !ok {
		return errors.New("the key is missing")
	}
	return nil
}

// watch returns a function that waits for the next change in a mirror of its own.
func (m *mirrors) watch(ctx context.Context, prefix string) (func() (int, error), error) {
	own, err := mirror.Open(ctx, m.client, prefix)
	if err != nil {
		return nil, err
	}
	changes, came := own.Changes(ctx), make(chan error, watchKeys)
	go func() { // ends with ctx
		defer own.Close()
		for c := range changes {
			select {
			case came <- c.Err:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() (int, error) {
		select {
		case err := <-came:
			return 1, err
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}, nil
}
