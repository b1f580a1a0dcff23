package main

import (
	"context"
	"fmt"

	"github.com/blueprint-go/etcd"
)

// transactions changes a counter only if it has the expected value.
func transactions(ctx context.Context, client *etcd.Client) error {
	const key = prefix + "txn/counter"

	// Whoever comes first sets the counter; all others read it.
	res, err := client.Txn().
		If(etcd.Missing(key)).
		Then(etcd.OpPut(key, []byte("10")), etcd.OpGet(key)).
		Else(etcd.OpGet(key)).
		Commit(ctx)
	if err != nil {
		return err
	}
	initial, _ := res.KV(key)
	fmt.Printf("Initial counter value: %s\n", initial.Value)

	swapped, err := client.CompareAndSwap(ctx, key, []byte("10"), []byte("20"))
	if err != nil {
		return err
	}
	fmt.Printf("CompareAndSwap (10->20): %t\n", swapped)
	if err := printCounter(ctx, client, key, "Counter value after CAS"); err != nil {
		return err
	}

	swapped, err = client.CompareAndSwap(ctx, key, []byte("15"), []byte("30"))
	if err != nil {
		return err
	}
	fmt.Printf("CompareAndSwap (15->30): %t (should be false)\n", swapped)
	if err := printCounter(ctx, client, key, "Final counter value"); err != nil {
		return err
	}
	fmt.Println("Transaction demo completed")
	return nil
}

func printCounter(ctx context.Context, client *etcd.Client, key, label string) error {
	value, err := client.Get(ctx, key)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s\n", label, value)
	return nil
}
