package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/blueprint-go/etcd"
)

// To know what is there, and then every change: read a list, watch from the next revision
// on, and begin anew where that was compacted meanwhile.
func ExampleClient_WatchPrefix() {
	client, end := exampleClient(nil)
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	storeUsers(ctx, client)

	var result etcd.WriteResult
	meanwhile := func() { // others write at any time, and once the server compacts
		compact := result.Revision == 0
		for _, name := range []string{"dan", "eve"} {
			if err := client.Put(ctx, "/users/"+name, []byte("guest"), etcd.WithResult(&result)); err != nil {
				log.Fatal(err)
			}
		}
		if compact {
			if _, err := client.Raw().Compact(ctx, result.Revision); err != nil {
				log.Fatal(err)
			}
		}
	}
	follow := func() error {
		users, err := client.Range(ctx, "/users/")
		if err != nil {
			return err
		}
		fmt.Println(len(users.KVs), "users")
		meanwhile()

		for resp := range client.WatchPrefix(ctx, "/users/", etcd.WithRevision(users.Revision+1)) {
			if err := resp.Err(); err != nil {
				return err
			}
			for _, event := range resp.Events {
				fmt.Println(event.Type, event.Kv.Key)
				if event.Kv.Key == "/users/eve" {
					cancel() // enough for an example
				}
			}
		}
		return nil
	}
	err := follow()
	for errors.Is(err, etcd.ErrCompacted) {
		fmt.Println("compacted: begin anew")
		err = follow()
	}
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 3 users
	// compacted: begin anew
	// 5 users
	// PUT /users/dan
	// PUT /users/eve
}

// A watch says when it is registered, interrupted and resumed, to those who ask.
func ExampleWithWatchStatus() {
	client, end := exampleClient(nil)
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	for resp := range client.Watch(ctx, "/color", etcd.WithWatchStatus()) {
		fmt.Println(resp.State)
		switch resp.State {
		case etcd.WatchRegistered:
			_ = client.Put(ctx, "/color", []byte("blue"))
		case etcd.WatchInterrupted:
			log.Print("what is known may be old: ", resp.Cause)
		case etcd.WatchEvents:
			cancel()
		}
	}
	// Output:
	// registered
	// events
}
