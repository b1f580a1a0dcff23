package etcdtest_test

import (
	"context"
	"fmt"
	"log"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd/etcdtest"
)

func Example() {
	server, err := etcdtest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	client, err := clientv3.New(clientv3.Config{Endpoints: server.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := client.Put(ctx, "greeting", "hello"); err != nil {
		log.Fatal(err)
	}
	got, err := client.Get(ctx, "greeting")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", got.Kvs[0].Value)
	// Output: hello
}

func ExampleNew() {
	_ = func(t *testing.T) { // func TestSomething(t *testing.T) {
		server := etcdtest.New(t,
			etcdtest.WithTLS(),
			etcdtest.WithAuth("secret"),
			etcdtest.WithUser("app", "password", etcdtest.Permission{Prefix: "app/", Read: true, Write: true}),
		)
		client, err := clientv3.New(clientv3.Config{
			Endpoints: server.Endpoints(),
			TLS:       server.TLSConfig(),
			Username:  "app",
			Password:  "password",
		})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
	}
}

func ExampleNewProxy() {
	_ = func(t *testing.T) { // func TestSomething(t *testing.T) {
		server := etcdtest.New(t)
		proxy := etcdtest.NewProxy(t, server.Endpoint())
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{proxy.Endpoint()}})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()

		// The server carries the request out, and the client never hears of it.
		proxy.Blackhole(etcdtest.ToClient)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := client.Put(ctx, "key", "value"); err == nil {
			t.Error("a request without an answer has succeeded")
		}
		proxy.Heal()
	}
}
