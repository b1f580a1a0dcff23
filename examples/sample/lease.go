package main

import (
	"context"
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

// lease stores a key that ends with its lease.
func lease(ctx context.Context, client *etcd.Client) error {
	const key = prefix + "lease/temp-data"

	id, err := client.Lease(5)
	if err != nil {
		return err
	}
	fmt.Printf("Created lease with ID: %s (TTL: 5s)\n", id)

	if err := client.PutWithLease(ctx, key, []byte("this will expire"), id); err != nil {
		return err
	}
	fmt.Printf("Stored key with lease: %s\n", key)

	exists, err := client.Exists(ctx, key)
	if err != nil {
		return err
	}
	fmt.Printf("Key exists: %t\n", exists)

	if err := awaitDelete(ctx, client, key, 6*time.Second); err != nil {
		return err
	}
	if exists, err = client.Exists(ctx, key); err != nil {
		return err
	}
	fmt.Printf("Key exists after expiry: %t\n", exists)
	fmt.Println("Lease demo completed")
	return nil
}

// awaitDelete returns when key is deleted or the time is up, whichever is first.
func awaitDelete(ctx context.Context, client *etcd.Client, key string, limit time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	deleted := client.Watch(ctx, key, etcd.WithOnly(etcd.EventDelete))

	fmt.Printf("Waiting %.0f seconds for lease to expire...\n", limit.Seconds())
	select {
	case resp := <-deleted:
		return resp.Err()
	case <-time.After(limit):
		return nil
	}
}
