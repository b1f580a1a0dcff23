package main

import (
	"context"
	"fmt"

	"github.com/blueprint-go/etcd"
)

// basic stores a value, reads it back and deletes it.
func basic(ctx context.Context, client *etcd.Client) error {
	const key = prefix + "basic/message"
	message := []byte("Hello from Blueprint etcd provider!")

	if err := client.Put(ctx, key, message); err != nil {
		return err
	}
	fmt.Printf("PUT: %s = %s\n", key, message)

	value, err := client.Get(ctx, key)
	if err != nil {
		return err
	}
	fmt.Printf("GET: %s = %s\n", key, value)

	exists, err := client.Exists(ctx, key)
	if err != nil {
		return err
	}
	fmt.Printf("EXISTS: %s = %t\n", key, exists)

	deleted, err := client.Delete(ctx, key)
	if err != nil {
		return err
	}
	fmt.Printf("DELETE: %s (deleted %d keys)\n", key, deleted)
	return nil
}
