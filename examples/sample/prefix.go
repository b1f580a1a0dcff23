package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/blueprint-go/etcd"
)

// prefixes stores several keys at once and handles them by their prefix.
func prefixes(ctx context.Context, client *etcd.Client) error {
	const users = prefix + "users/"
	kvs := map[string][]byte{
		users + "alice":            []byte(`{"name": "Alice", "email": "alice@example.com"}`),
		users + "bob":              []byte(`{"name": "Bob", "email": "bob@example.com"}`),
		users + "charlie":          []byte(`{"name": "Charlie", "email": "charlie@example.com"}`),
		prefix + "config/timeout":  []byte("30s"),
		prefix + "config/max-size": []byte("1024"),
	}
	// One transaction: all keys are stored, or none.
	if err := client.BulkPut(ctx, kvs); err != nil {
		return err
	}
	fmt.Printf("BULK_PUT: inserted %d key-value pairs\n", len(kvs))

	if err := list(ctx, client, users); err != nil {
		return err
	}
	count, err := client.Count(ctx, prefix)
	if err != nil {
		return err
	}
	fmt.Printf("COUNT: total %d keys under %s\n", count, prefix)

	deleted, err := client.DeletePrefix(ctx, prefix)
	if err != nil {
		return err
	}
	fmt.Printf("DELETE PREFIX: removed %d keys\n", deleted)
	return nil
}

// list reads the users, without and with their values.
func list(ctx context.Context, client *etcd.Client, users string) error {
	keys, err := client.List(ctx, users)
	if err != nil {
		return err
	}
	fmt.Printf("LIST KEYS: found %d user keys\n", len(keys))
	for _, key := range keys {
		fmt.Printf("   - %s\n", key)
	}

	values, err := client.ListWithValues(ctx, users)
	if err != nil {
		return err
	}
	fmt.Printf("LIST WITH VALUES: found %d users\n", len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		fmt.Printf("   - %s: %s\n", key, values[key])
	}
	return nil
}
