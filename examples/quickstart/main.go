// Command quickstart is the program that the README shows.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/blueprint-go/etcd"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	cfg, err := etcd.ConfigFromEnv() // ETCD_ENDPOINTS, else localhost:2379
	if err != nil {
		return err
	}
	client, err := etcd.NewClient(cfg)
	if err != nil {
		return err // says why: connection refused, unknown authority, wrong password, …
	}
	defer client.Close()

	if err := client.Put(ctx, "/app/greeting", []byte("hello")); err != nil {
		return err // etcd.MaybeApplied(err) reports whether it may be stored anyway
	}
	greeting, err := client.Get(ctx, "/app/greeting")
	if err != nil {
		return err // errors.Is(err, etcd.ErrKeyNotFound) where it is missing
	}
	fmt.Printf("%s\n", greeting)

	// One process at a time; ctx ends should the lock be lost, and then nothing is written with it.
	return client.WithLock(ctx, "/app/migration", func(ctx context.Context) error {
		return client.Put(ctx, "/app/schema", []byte("2"))
	})
}
