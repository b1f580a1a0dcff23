package mirror_test

import (
	"context"
	"fmt"
	"log"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/memserver"
	"github.com/blueprint-go/etcd/mirror"
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

func put(client *etcd.Client, key, value string) {
	if err := client.Put(context.Background(), key, []byte(value)); err != nil {
		log.Fatal(err)
	}
}

// Read from memory what is read far more often than it is written.
func Example() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	put(client, "/services/web", "10.0.0.1:80")

	m, err := mirror.Open(ctx, client, "/services/")
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	kv, ok := m.Get("/services/web")
	fmt.Println(string(kv.Value), ok)

	put(client, "/services/db", "10.0.0.2:5432")
	if err := m.Fresh(ctx); err != nil { // holds what was acknowledged before
		log.Fatal(err)
	}
	for kv := range m.All() {
		fmt.Println(kv.Key, string(kv.Value))
	}
	// Output:
	// 10.0.0.1:80 true
	// /services/db 10.0.0.2:5432
	// /services/web 10.0.0.1:80
}

// Act on what exists and then on each change, whole revisions at a time.
func ExampleMirror_Changes() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	put(client, "/services/web", "10.0.0.1:80")
	m, err := mirror.Open(ctx, client, "/services/")
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	for c := range m.Changes(ctx, mirror.WithExisting()) {
		switch c.Type {
		case mirror.Created:
			fmt.Println("dial", string(c.New.Value))
			put(client, "/services/web", "10.0.0.9:80") // somebody moves it
		case mirror.Updated:
			fmt.Println("dial", string(c.New.Value), "instead of", string(c.Old.Value))
			if _, err := client.Delete(ctx, c.Key); err != nil {
				log.Fatal(err)
			}
		case mirror.Deleted:
			fmt.Println("hang up", string(c.Old.Value))
			m.Close()
		case mirror.Ended:
			fmt.Println(c.Err)
		}
	}
	// Output:
	// dial 10.0.0.1:80
	// dial 10.0.0.9:80 instead of 10.0.0.1:80
	// hang up 10.0.0.9:80
	// etcd: changes of mirror "/services/": mirror is closed
}

// Wait for one's own write, and read it from memory.
func ExampleMirror_WaitFor() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	m, err := mirror.Open(ctx, client, "/flags/")
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	var written etcd.WriteResult
	if err := client.Put(ctx, "/flags/dark", []byte("on"), etcd.WithResult(&written)); err != nil {
		log.Fatal(err)
	}
	if err := m.WaitFor(ctx, written.Revision); err != nil {
		log.Fatal(err)
	}
	kv, _ := m.Get("/flags/dark")
	fmt.Println(string(kv.Value))
	// Output: on
}

// Values of a type are decoded once, when they arrive.
func ExampleOpenTyped() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	type service struct{ Host string }
	services := etcd.NewTyped[service](client, "/services/")
	if err := services.Put(ctx, "web", service{Host: "10.0.0.1"}); err != nil {
		log.Fatal(err)
	}
	put(client, "/services/broken", "{")

	m, err := mirror.OpenTyped(ctx, services)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	web, _ := m.Get("web")
	fmt.Println(web.Value.Host)
	for name := range m.Bad() {
		fmt.Println(name, "can't be decoded")
	}
	// Output:
	// 10.0.0.1
	// broken can't be decoded
}
