package etcd_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/blueprint-go/etcd"
)

// A registration lives as long as its process: the lease is kept alive, and its keys go
// with it.
func ExampleClient_KeepAlive() {
	client, end := exampleClient(nil)
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	lease, err := client.Grant(ctx, 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Put(ctx, "/instances/web-1", []byte("10.0.0.7:80"), etcd.WithLease(lease)); err != nil {
		log.Fatal(err)
	}
	alive, err := client.KeepAlive(ctx, lease)
	if err != nil {
		log.Fatal(err)
	}
	first := <-alive
	fmt.Println(first.TTL, first.Err())

	if err := client.RevokeLease(ctx, lease); err != nil {
		log.Fatal(err)
	}
	there, err := client.Exists(ctx, "/instances/web-1")
	fmt.Println(there, err)
	// Output:
	// 10s <nil>
	// false <nil>
}

// A key that goes away after a time.
func ExampleClient_PutWithTTL() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	lease, err := client.PutWithTTL(ctx, "/sessions/ann", []byte("token"), time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	status, err := client.TimeToLive(ctx, lease)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.GrantedTTL, status.Keys)
	// Output: 1h0m0s [/sessions/ann]
}
