package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/blueprint-go/etcd"
)

// All keys are stored in one revision, or none.
func ExampleClient_BulkPut() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	err := client.BulkPut(ctx, map[string][]byte{"/flags/a": []byte("on"), "/flags/b": []byte("off")})
	if err != nil {
		log.Fatal(err)
	}
	values, err := client.BulkGet(ctx, []string{"/flags/a", "/flags/b", "/flags/c"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(values), "of 3")
	// Output: 2 of 3
}

// What is more than one request holds is stored in chunks; the error says how far it came.
func ExampleInChunks() {
	client, end := exampleClient(nil)
	defer end()

	all := map[string][]byte{}
	for i := range 1000 {
		all[fmt.Sprintf("/items/%03d", i)] = []byte("value")
	}
	err := client.BulkPut(context.Background(), all, etcd.InChunks())
	var partial *etcd.BulkError
	if errors.As(err, &partial) {
		log.Fatal("to be stored again: ", partial.Remaining())
	}
	fmt.Println(err)
	// Output: <nil>
}

// A load reads its keys from an iterator, and needs little memory for any number of them.
func ExampleClient_BulkLoad() {
	client, end := exampleClient(nil)
	defer end()

	items := func(yield func(key string, value []byte) bool) {
		for i := range 1000 {
			if !yield(fmt.Sprintf("/items/%03d", i), []byte("value")) {
				return
			}
		}
	}
	report, err := client.BulkLoad(context.Background(), items, etcd.WithChunkKeys(100), etcd.WithParallelism(2))
	if err != nil {
		log.Fatal("resume after ", report.Applied, ": ", err)
	}
	fmt.Println(report.Applied)
	// Output: 1000
}

// A copy of a prefix as a file of JSON lines, restored under another one.
func ExampleClient_Export() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()
	storeUsers(ctx, client)

	var file bytes.Buffer
	if _, err := client.Export(ctx, &file, "/users/", etcd.WithDecryptedValues()); err != nil {
		log.Fatal(err)
	}
	report, err := client.Import(ctx, &file, etcd.WithNewPrefix("/copy/"), etcd.WithOnlyMissing())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Written)
	// Output: 3
}

// A bulk call in chunks that was stopped goes on with what remains.
func ExampleBulkError() {
	client, end := exampleClient(nil)
	defer end()

	kvs := make(map[string][]byte)
	for i := range 1000 {
		kvs[fmt.Sprintf("/users/%04d", i)] = []byte("guest")
	}
	stopped, stop := context.WithCancel(context.Background())
	stop() // the process was told to end
	err := client.BulkPut(stopped, kvs, etcd.InChunks())
	if failure, ok := errors.AsType[*etcd.BulkError](err); ok {
		fmt.Println("stored:", len(failure.Applied), "remaining:", len(failure.Remaining()))
		rest := make(map[string][]byte)
		for _, key := range failure.Remaining() {
			rest[key] = kvs[key]
		}
		err = client.BulkPut(context.Background(), rest, etcd.InChunks())
	}
	if err != nil {
		log.Fatal(err)
	}
	n, err := client.Count(context.Background(), "/users/")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored:", n)
	// Output:
	// stored: 0 remaining: 1000
	// stored: 1000
}
