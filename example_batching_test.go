package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"

	"github.com/blueprint-go/etcd"
)

// A hundred callers that meet need far fewer than a hundred round trips. Nothing else
// changes for them.
func ExampleConfig_WithBatching() {
	client, end := exampleClient(etcd.DefaultConfig().WithBatching())
	defer end()
	ctx := context.Background()

	var callers sync.WaitGroup
	for i := range 100 {
		callers.Go(func() {
			if err := client.Put(ctx, fmt.Sprintf("/sensors/%d", i), []byte("20.5")); err != nil {
				log.Fatal(err)
			}
		})
	}
	callers.Wait()
	n, err := client.Count(ctx, "/sensors/")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n)
	// Output: 100
}

// A write can be bound to any state of any key, in the same round trip.
func ExampleWithCondition() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	open := etcd.WithCondition(etcd.Missing("/maintenance"))
	fmt.Println(client.Put(ctx, "/orders/1", []byte("new"), open))
	if err := client.Put(ctx, "/maintenance", nil); err != nil {
		log.Fatal(err)
	}
	err := client.Put(ctx, "/orders/2", []byte("new"), open)
	fmt.Println(errors.Is(err, etcd.ErrConditionFailed), etcd.MaybeApplied(err))
	// Output:
	// <nil>
	// true false
}
