package etcd_test

import (
	"context"
	"fmt"
	"log"

	"github.com/blueprint-go/etcd"
)

// storeUsers stores the keys that the examples are about.
func storeUsers(ctx context.Context, client *etcd.Client) {
	err := client.BulkPut(ctx, map[string][]byte{
		"/users/ann": []byte("admin"), "/users/bob": []byte("guest"), "/users/cid": []byte("guest"),
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A list and its revision: a watch from the next one on misses nothing.
func ExampleClient_Range() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()
	storeUsers(ctx, client)

	users, err := client.Range(ctx, "/users/")
	if err != nil {
		log.Fatal(err)
	}
	for _, kv := range users.KVs {
		fmt.Printf("%s is %s\n", kv.Key, kv.Value)
	}
	fmt.Println("at revision", users.Revision)
	// Output:
	// /users/ann is admin
	// /users/bob is guest
	// /users/cid is guest
	// at revision 2
}

// Any number of keys, at one revision, with a few pages in memory.
func ExampleClient_Scan() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()
	storeUsers(ctx, client)

	for kv, err := range client.Scan(ctx, "/users/", etcd.WithReverse()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(kv.Key)
	}
	// Output:
	// /users/cid
	// /users/bob
	// /users/ann
}

// In chunks a deletion holds up nobody, however many keys there are; at once it is atomic.
func ExampleClient_DeletePrefix() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()
	storeUsers(ctx, client)

	deleted, err := client.DeletePrefix(ctx, "/users/", etcd.InChunks())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(deleted)
	// Output: 3
}
