package etcd_test

import (
	"context"
	"fmt"
	"log"
	"strconv"

	"github.com/blueprint-go/etcd"
)

// The first one to create a key wins, in one round trip.
func ExampleClient_PutIfNotExists() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	for _, node := range []string{"node-1", "node-2"} {
		created, err := client.PutIfNotExists(ctx, "/leader", []byte(node))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(node, created)
	}
	// Output:
	// node-1 true
	// node-2 false
}

// Update never loses the change of somebody else: its function runs again with the new
// value when the key has changed meanwhile.
func ExampleClient_Update() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	increment := func(old []byte) ([]byte, error) {
		n := 0
		if old != nil {
			var err error
			if n, err = strconv.Atoi(string(old)); err != nil {
				return nil, err
			}
		}
		return strconv.AppendInt(nil, int64(n+1), 10), nil
	}
	for range 3 {
		if err := client.Update(ctx, "/counter", increment); err != nil {
			log.Fatal(err)
		}
	}
	value, err := client.Get(ctx, "/counter")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", value)
	// Output: 3
}

// A value is replaced only if it is the one that was read. Values may be encrypted.
func ExampleClient_CompareAndSwap() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	_ = client.Put(ctx, "/state", []byte("idle"))
	for range 2 {
		swapped, err := client.CompareAndSwap(ctx, "/state", []byte("idle"), []byte("busy"))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(swapped)
	}
	// Output:
	// true
	// false
}

// A write tells its revision, and what it has replaced.
func ExampleWithResult() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	_ = client.Put(ctx, "/color", []byte("blue"))
	var result etcd.WriteResult
	if err := client.Put(ctx, "/color", []byte("red"), etcd.WithResult(&result), etcd.WithPrevKV()); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("revision %d, was %s\n", result.Revision, result.PrevKV.Value)
	// Output: revision 3, was blue
}

// A guarded put may be repeated when an answer is lost: it is bound to the key as it was.
func ExampleWithGuard() {
	client, end := exampleClient(nil)
	defer end()

	if err := client.Put(context.Background(), "/color", []byte("blue"), etcd.WithGuard()); err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored")
	// Output: stored
}

// A key is moved in one revision, with its lease.
func ExampleClient_MoveKey() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	_ = client.Put(ctx, "/jobs/new/1", []byte("resize"))
	if err := client.MoveKey(ctx, "/jobs/new/1", "/jobs/done/1"); err != nil {
		log.Fatal(err)
	}
	names, err := client.List(ctx, "/jobs/")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(names)
	// Output: [/jobs/done/1]
}
