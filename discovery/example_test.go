package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
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

var silent = discovery.WithLogger(slog.New(slog.DiscardHandler))

// A process registers where it serves, and says when it is about to stop.
func ExampleRegister() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	r, err := discovery.Register(ctx, client, "cart", discovery.Instance{
		ID: "cart-0", Address: "10.0.0.7:8080", Zone: "eu-1a", Weight: 10,
	}, silent)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Key(), r.Status().Registered)

	if err := r.Drain(ctx); err != nil { // no new calls
		log.Fatal(err)
	}
	// … and when those under way are done:
	if err := r.Close(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Status().Registered, r.Status().Cause)
	// Output:
	// /services/cart/cart-0 true
	// false registration is closed
}

// Two instances with one id don't replace each other.
func ExampleRegister_duplicate() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	r, err := discovery.Register(ctx, client, "cart", discovery.Instance{ID: "cart-0", Address: "10.0.0.7:8080"}, silent)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = r.Close(ctx) }()
	_, err = discovery.Register(ctx, client, "cart", discovery.Instance{ID: "cart-0", Address: "10.0.0.8:8080"}, silent)
	fmt.Println(errors.Is(err, discovery.ErrDuplicateInstance))
	// Output: true
}

// Look once for the instances of a service.
func ExampleInstances() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	_, err := discovery.Instances(ctx, client, "cart")
	fmt.Println(err)

	for _, address := range []string{"10.0.0.7:8080", "10.0.0.8:8080"} {
		r, err := discovery.Register(ctx, client, "cart", discovery.Instance{ID: address, Address: address}, silent)
		if err != nil {
			log.Fatal(err)
		}
		defer func() { _ = r.Close(ctx) }()
	}
	instances, err := discovery.Instances(ctx, client, "cart")
	if err != nil {
		log.Fatal(err)
	}
	for _, i := range instances {
		fmt.Println(i.Address)
	}
	// Output:
	// etcd: instances "cart": no instance of the service is registered
	// 10.0.0.7:8080
	// 10.0.0.8:8080
}

// Follow the instances of a service, whatever happens to etcd.
func ExampleWatch() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	r, err := discovery.Register(ctx, client, "cart", discovery.Instance{ID: "cart-0", Address: "10.0.0.7:8080"}, silent)
	if err != nil {
		log.Fatal(err)
	}
	for cart, err := range discovery.Watch(ctx, client, "cart") {
		if errors.Is(err, discovery.ErrUnknownService) {
			fmt.Println(err)
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		for _, i := range cart.Instances {
			fmt.Println(i.Address)
		}
		if err := r.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 10.0.0.7:8080
	// etcd: watch service "cart": no instance of the service is registered
}
