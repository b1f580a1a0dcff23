package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/memserver"
)

// What a service does most: store, read, and tell a missing key from a failure.
func Example() {
	client, end := exampleClient(etcd.DefaultConfig().WithNamespace("/shop/"))
	defer end()
	ctx := context.Background()

	if err := client.Put(ctx, "color", []byte("blue")); err != nil {
		log.Fatal(err)
	}
	color, err := client.Get(ctx, "color")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", color)

	_, err = client.Get(ctx, "size")
	fmt.Println(errors.Is(err, etcd.ErrKeyNotFound), err)
	// Output:
	// blue
	// true etcd: get "size": key not found
}

// The setters check nothing: NewClient and Validate report all problems together.
func ExampleConfig_Validate() {
	cfg := etcd.DefaultConfig().WithEndpoints("etcd-1:2379", "etcd-2").WithEncryption([]byte("short"))
	err := cfg.Validate()
	fmt.Println(errors.Is(err, etcd.ErrInvalidConfig))
	// Output: true
}

// An error names the operation and the key, and says whether a write may be there.
func ExampleError() {
	client, end := exampleClient(nil)
	defer end()

	err := client.PutWithLease(context.Background(), "instance", nil, 42)
	var e *etcd.Error
	if errors.As(err, &e) {
		fmt.Println(e.Op, e.Key, "sent:", e.Sent, "maybe applied:", e.MaybeApplied)
	}
	fmt.Println(errors.Is(err, etcd.ErrLeaseNotFound))
	// Output:
	// put instance sent: true maybe applied: false
	// true
}

// The answer of a put is lost. Settle finds out whether it was applied: with encryption
// every stored value is like no other, and proves its write.
func ExampleClient_Settle() {
	server := memserver.New()
	client, end := exampleClientOf(server, etcd.DefaultConfig().WithEncryption(etcd.GenerateKey()))
	defer end()
	ctx := context.Background()

	server.LosePut()
	err := client.Put(ctx, "/orders/17", []byte("paid"))
	if etcd.MaybeApplied(err) {
		outcome, err := client.Settle(ctx, err)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("the put was", outcome)
	} else if err != nil {
		log.Fatal(err) // certainly not applied
	}
	// Output: the put was applied
}

// countingHook counts requests. Bindings to metrics and traces are made in the same way.
type countingHook struct{ reads, writes int }

func (h *countingHook) BeforeRequest(ctx context.Context, _ etcd.RequestInfo) context.Context {
	return ctx
}

func (h *countingHook) AfterRequest(_ context.Context, req etcd.RequestInfo, _ etcd.ResultInfo) {
	if req.Write {
		h.writes++
	} else {
		h.reads++
	}
}

func ExampleHook() {
	hook := &countingHook{} // one request at a time here; real ones need a mutex
	client, end := exampleClient(etcd.DefaultConfig().WithHooks(hook).WithLazyConnect())
	defer end()
	ctx := context.Background()

	_ = client.Put(ctx, "key", nil)
	_, _ = client.Get(ctx, "key")
	_, _ = client.Exists(ctx, "key")
	fmt.Println(hook.writes, "write,", hook.reads, "reads")
	// Output: 1 write, 2 reads
}
