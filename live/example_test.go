package live_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/memserver"
	"github.com/blueprint-go/etcd/live"
)

// exampleClient returns a client of an etcd that belongs to the example, and what ends
// both.
func exampleClient() (client *etcd.Client, end func()) {
	endpoint, stop, err := memserver.New().Serve()
	if err != nil {
		log.Fatal(err)
	}
	client, err = etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoint))
	if err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		stop()
	}
}

// put stores what somebody configures.
func put(client *etcd.Client, key, value string) {
	if err := client.Put(context.Background(), key, []byte(value)); err != nil {
		log.Fatal(err)
	}
}

// Config is the configuration of a shop.
type Config struct {
	Server struct {
		Host string
		Port uint16
	}
	Timeout time.Duration
	Limits  map[string]int // by customer
}

// A configuration is loaded where it is needed, and acted on where it changes.
func Example() {
	client, end := exampleClient()
	defer end()
	put(client, "/shop/server/host", "localhost")
	put(client, "/shop/server/port", "80")
	put(client, "/shop/limits/alice", "3")

	ctx := context.Background()
	config, err := live.Open[Config](ctx, client, "/shop/",
		live.WithDefaults(func() Config { return Config{Timeout: time.Second} }))
	if err != nil {
		log.Fatal(err)
	}
	defer config.Close()
	now := config.Load()
	fmt.Printf("%s:%d %v %v\n", now.Server.Host, now.Server.Port, now.Timeout, now.Limits)

	changes := config.Changes(ctx)
	put(client, "/shop/timeout", "500ms")
	for change := range changes {
		fmt.Println(change.Fields, change.New.Timeout)
		break
	}
	// Output:
	// localhost:80 1s map[alice:3]
	// [Timeout] 500ms
}

// A bad configuration is named, and the last good one is served.
func ExampleWithValidate() {
	client, end := exampleClient()
	defer end()
	put(client, "/shop/server/port", "8080")

	config, err := live.Open[Config](context.Background(), client, "/shop/", live.WithValidate(func(c *Config) error {
		if c.Server.Port < 1024 {
			return errors.New("the server's port is privileged")
		}
		return nil
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer config.Close()

	rejections := config.Rejections(context.Background())
	put(client, "/shop/server/port", "http")
	for refused := range rejections { // in a goroutine that writes the log
		fmt.Println(refused.Err)
		break
	}
	fmt.Println(config.Load().Server.Port)
	// Output:
	// "/shop/server/port" (field Server.Port): does not fit uint16
	// 8080
}

// A document of JSON under one key; WithUnmarshal takes others, such as YAML.
func ExampleOpenDocument() {
	client, end := exampleClient()
	defer end()
	put(client, "/shop.json", `{"server": {"host": "localhost", "port": 80}, "timeout": "2s"}`)

	config, err := live.OpenDocument[Config](context.Background(), client, "/shop.json", live.WithStrict())
	if err != nil {
		log.Fatal(err)
	}
	defer config.Close()
	fmt.Println(config.Load().Server.Port, config.Load().Timeout)
	// Output: 80 2s
}

// A service starts while etcd is away, with the configuration that it had last.
func ExampleWithLastGood() {
	folder, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	path := filepath.Join(folder, "config")

	client, end := exampleClient()
	put(client, "/shop/timeout", "3s")
	config, err := live.Open[Config](context.Background(), client, "/shop/", live.WithLastGood(path))
	if err != nil {
		log.Fatal(err)
	}
	config.Close()
	end() // of etcd as well

	// Later, in another process.
	client, err = etcd.NewClient(etcd.DefaultConfig().WithEndpoints("localhost:1").
		WithLazyConnect().WithTimeout(100 * time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	config, err = live.Open[Config](context.Background(), client, "/shop/", live.WithLastGood(path))
	if err != nil {
		log.Fatal(err)
	}
	defer config.Close()
	fmt.Println(config.Load().Timeout, "from the", config.Status().Source)
	// Output: 3s from the file
}
