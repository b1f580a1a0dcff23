package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strconv"

	"github.com/blueprint-go/etcd"
)

// Conditions and operations of one revision. Values are compared although they may be
// encrypted.
func ExampleClient_Txn() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()
	_ = client.Put(ctx, "/config/version", []byte("1"))

	result, err := client.Txn().
		If(etcd.Value("/config/version").Equal([]byte("1")), etcd.Missing("/config/frozen")).
		Then(etcd.OpPut("/config/color", []byte("blue")), etcd.OpPut("/config/version", []byte("2"))).
		Else(etcd.OpGet("/config/version")).
		Commit(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Succeeded, result.Revision)
	// Output: true 3
}

// A transfer that reads, thinks and writes as if nobody else were there. The function
// runs again when what it has read was changed meanwhile.
func ExampleClient_Transact() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()
	_ = client.BulkPut(ctx, map[string][]byte{"/bank/ann": []byte("100"), "/bank/bob": []byte("0")})

	balance := func(tx *etcd.Tx, name string) (int, error) {
		value, err := tx.Get("/bank/" + name)
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(string(value))
	}
	err := client.Transact(ctx, func(tx *etcd.Tx) error {
		ann, err := balance(tx, "ann")
		if err != nil {
			return err
		}
		bob, err := balance(tx, "bob")
		if err != nil {
			return err
		}
		if ann < 30 {
			return errors.New("ann has not enough")
		}
		tx.Put("/bank/ann", strconv.AppendInt(nil, int64(ann-30), 10))
		tx.Put("/bank/bob", strconv.AppendInt(nil, int64(bob+30), 10))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	all, err := client.ListWithValues(ctx, "/bank/")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n", all["/bank/ann"], all["/bank/bob"])
	// Output: 70 30
}

// A transaction inside a transaction has conditions of its own.
func ExampleOpTxn() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	discount := client.Txn().
		If(etcd.Exists("/vouchers/alice")).
		Then(etcd.OpDelete("/vouchers/alice"), etcd.OpPut("/orders/1/discount", []byte("10%")))
	result, err := client.Txn().
		If(etcd.Missing("/orders/1/article")).
		Then(etcd.OpPut("/orders/1/article", []byte("book")), etcd.OpTxn(discount)).
		Commit(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ordered:", result.Succeeded)
	fmt.Println("with discount:", result.Results[1].Txn.Succeeded)
	// Output:
	// ordered: true
	// with discount: false
}
