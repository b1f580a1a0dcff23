package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// prefix begins every key of the sample.
const prefix = "/sample/"

// cluster returns the configuration for the cluster that the environment names, or else
// for a server that it starts, and a function that ends that server.
func cluster() (*etcd.Config, func() error, error) {
	if _, ok := os.LookupEnv("ETCD_ENDPOINTS"); ok {
		cfg, err := etcd.ConfigFromEnv()
		return cfg, func() error { return nil }, err
	}
	server, err := etcdtest.Start()
	if err != nil {
		return nil, nil, err
	}
	return etcd.DefaultConfig().WithEndpoints(server.Endpoints()...), server.Close, nil
}

// demos connects to the cluster and runs each demo.
func demos(ctx context.Context, cfg *etcd.Config) (err error) {
	client, err := etcd.NewClient(cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Printf("Connected to etcd at %v\n", client.Endpoints())

	if err := clean(ctx, client); err != nil {
		return err
	}
	defer func() {
		// After a signal ctx has ended, but the keys must be deleted within the grace.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace*3/4)
		defer cancel()
		err = errors.Join(err, clean(ctx, client))
	}()

	for _, demo := range []struct {
		title, rule string
		run         func() error
	}{
		{"Basic Operations Demo", "---------------------", func() error { return basic(ctx, client) }},
		{"Prefix Operations Demo", "----------------------", func() error { return prefixes(ctx, client) }},
		{"Watch Demo", "-----------", func() error { return watch(ctx, client) }},
		{"Lease Demo", "-----------", func() error { return lease(ctx, client) }},
		{"Distributed Lock Demo", "---------------------", func() error { return locks(ctx, client) }},
		{"Transaction Demo", "----------------", func() error { return transactions(ctx, client) }},
		{"Encryption Demo", "---------------", func() error { return encryption(ctx, cfg) }},
	} {
		fmt.Printf("\n%s\n%s\n", demo.title, demo.rule)
		if err := demo.run(); err != nil {
			return fmt.Errorf("%s: %w", demo.title, err)
		}
	}
	return nil
}

// clean deletes the keys of the sample.
func clean(ctx context.Context, client *etcd.Client) error {
	_, err := client.DeletePrefix(ctx, prefix)
	return err
}
