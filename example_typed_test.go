package etcd_test

import (
	"context"
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
