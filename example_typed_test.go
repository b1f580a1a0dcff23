package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/blueprint-go/etcd"
)

type user struct {
	Role   string `json:"role"`
	Logins int    `json:"logins"`
}

// Values of a Go type under a prefix, as JSON.
func ExampleTyped() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()
	users := etcd.NewTyped[user](client, "/users/")

	if err := users.Put(ctx, "ann", user{Role: "admin"}); err != nil {
		log.Fatal(err)
	}
	err := users.Update(ctx, "ann", func(u user, exists bool) (user, bool, error) {
		u.Logins++
		return u, exists, nil
	})
	if err != nil {
		log.Fatal(err)
	}
	ann, err := users.Get(ctx, "ann")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", ann.Value)
	// Output: {Role:admin Logins:1}
}

// A value that can't be unmarshalled doesn't keep the others from being read.
func ExampleTyped_All() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	limits := etcd.NewTyped[int](client, "/limits/")
	for name, limit := range map[string]int{"alice": 10, "carol": 30} {
		if err := limits.Put(ctx, name, limit); err != nil {
			log.Fatal(err)
		}
	}
	if err := client.Put(ctx, "/limits/bob", []byte("a lot")); err != nil {
		log.Fatal(err)
	}
	for limit, err := range limits.All(ctx) {
		if _, ok := errors.AsType[*etcd.DecodeError](err); ok {
			fmt.Println(limit.Name, "has no valid limit")
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(limit.Name, limit.Value)
	}
	// Output:
	// alice 10
	// bob has no valid limit
	// carol 30
}

func ExampleTyped_Watch() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	limits := etcd.NewTyped[int](client, "/limits/")
	list, err := limits.Range(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("known:", len(list.Values))
	if err := limits.Put(ctx, "alice", 10); err != nil {
		log.Fatal(err)
	}
	for change, err := range limits.Watch(ctx, etcd.WithRevision(list.Revision+1)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(change.Type, change.Name, change.Value)
		break // ends the watch
	}
	// Output:
	// known: 0
	// PUT alice 10
}
