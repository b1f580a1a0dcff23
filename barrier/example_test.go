package barrier_test

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/barrier"
	"github.com/blueprint-go/etcd/internal/memserver"
)

// exampleClient returns a client of a server in memory.
func exampleClient() (client *etcd.Client, end func()) {
	endpoint, stop, err := memserver.New().Serve()
	if err != nil {
		log.Fatal(err)
	}
	if client, err = etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoint)); err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		stop()
	}
}

// Have others wait until what they need is there.
func Example() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	b, err := barrier.New(client, "/jobs/import")
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()
	if err := b.Hold(ctx); err != nil {
		log.Fatal(err)
	}

	var wg sync.WaitGroup
	wg.Go(func() { // in another process
		if err := b.Wait(ctx); err != nil { // barrier.ErrHolderLost: it was not prepared
			log.Fatal(err)
		}
		fmt.Println("go on")
	})
	fmt.Println("prepare")
	if err := b.Release(ctx); err != nil {
		log.Fatal(err)
	}
	wg.Wait()
	// Output:
	// prepare
	// go on
}

// Begin together, and end together.
func ExampleDouble() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	const n = 3
	var wg sync.WaitGroup
	var mu sync.Mutex
	begun := 0
	for range n { // each in a process of its own
		wg.Go(func() {
			d, err := barrier.NewDouble(client, "/jobs/step", n)
			if err != nil {
				log.Fatal(err)
			}
			defer d.Close()
			if err := d.Enter(ctx); err != nil {
				log.Fatal(err)
			}
			mu.Lock()
			begun++
			mu.Unlock()
			if err := d.Leave(ctx); err != nil {
				log.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			fmt.Println("all have begun:", begun == n)
		})
	}
	wg.Wait()
	// Output:
	// all have begun: true
	// all have begun: true
	// all have begun: true
}
