package main

import (
	"context"
	"fmt"

	"github.com/blueprint-go/etcd"
)

// watch follows the changes of a key.
func watch(ctx context.Context, client *etcd.Client) error {
	const key = prefix + "watch/counter"
	const changes = 3

	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a watch ends with its context

	responses := client.Watch(ctx, key)
	fmt.Printf("Started watching key: %s\n", key)

	// The watch is in place when Watch returns, so it misses none of these.
	for i := range changes {
		if err := client.Put(ctx, key, fmt.Appendf(nil, "value-%d", i+1)); err != nil {
			return err
		}
	}

	seen := 0
	for seen < changes {
		resp, ok := <-responses
		if !ok {
			return context.Cause(ctx)
		}
		if err := resp.Err(); err != nil {
			return err
		}
		for _, event := range resp.Events {
			seen++
			fmt.Printf("Event %d: %s %s = %s\n", seen, event.Type, event.Kv.Key, event.Kv.Value)
		}
	}
	fmt.Println("Watch demo completed")
	return nil
}
