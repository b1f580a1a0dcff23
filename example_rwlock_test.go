package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/blueprint-go/etcd"
)

// Many may read at a time, or one may write.
func ExampleRWLock() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	catalogue, err := client.NewRWLock("/locks/catalogue")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = catalogue.Close() }()
	for range 2 {
		if err := catalogue.RLock(ctx); err != nil {
			log.Fatal(err)
		}
	}
	locked, err := catalogue.TryLock(ctx)
	fmt.Println("two read; one may write:", locked, err)
	for range 2 {
		if err := catalogue.RUnlock(ctx); err != nil {
			log.Fatal(err)
		}
	}
	if err := catalogue.Lock(ctx); err != nil {
		log.Fatal(err)
	}
	// Nothing is written with this context once the lock is lost.
	if err := client.Put(catalogue.Guard(ctx), "/catalogue", []byte("new")); err != nil {
		log.Fatal(err)
	}
	fmt.Println("written:", catalogue.Unlock(ctx) == nil)
	// Output:
	// two read; one may write: false <nil>
	// written: true
}

// At most three of a cluster's workers use the printer at a time; a poster takes two of three.
func ExampleSemaphore() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	pages, err := client.NewSemaphore("/limits/printer", 3)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = pages.Close() }()
	posters, err := client.NewSemaphore("/limits/printer", 3, etcd.WithWeight(2))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = posters.Close() }()

	if err := posters.Acquire(ctx); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		printing, err := pages.TryAcquire(ctx)
		fmt.Println("a page beside the poster:", printing, err)
	}
	if err := posters.Release(ctx); err != nil {
		log.Fatal(err)
	}

	wrong, err := client.NewSemaphore("/limits/printer", 4)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = wrong.Close() }()
	fmt.Println("another size:", errors.Is(wrong.Acquire(ctx), etcd.ErrSemaphoreSize))
	// Output:
	// a page beside the poster: true <nil>
	// a page beside the poster: false <nil>
	// another size: true
}
