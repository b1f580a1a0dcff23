// Command transactions takes an order in one step that is applied as a whole or not at
// all: it takes the article from stock if there is one, and uses the customer's voucher
// if that is good; without a good voucher it takes the order too.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/blueprint-go/etcd"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	cfg, err := etcd.ConfigFromEnv() // ETCD_ENDPOINTS, else localhost:2379
	if err != nil {
		return err
	}
	// Without encryption, conditions on values work the same and take one round trip
	// less.
	client, err := etcd.NewClient(cfg.WithEncryption([]byte("a key of an example, not a secret")))
	if err != nil {
		return err
	}
	defer client.Close()

	err = client.BulkPut(ctx, map[string][]byte{
		"/shop/stock/book":     []byte("1"),
		"/shop/vouchers/alice": []byte("good"),
	})
	if err != nil {
		return err
	}
	for _, customer := range []string{"alice", "bob"} {
		if err := order(ctx, out, client, customer); err != nil {
			return err
		}
	}
	return nil
}

// order sells the last book.
func order(ctx context.Context, out io.Writer, client *etcd.Client, customer string) error {
	const stock = "/shop/stock/book"
	voucher := "/shop/vouchers/" + customer

	discount := client.Txn().
		If(etcd.Value(voucher).Equal([]byte("good"))).
		Then(etcd.OpPut(voucher, []byte("used")), etcd.OpPut("/shop/orders/"+customer+"/discount", []byte("10 %")))

	res, err := client.Txn().
		If(
			etcd.Value(stock).Equal([]byte("1")),
			etcd.PrefixEmpty("/shop/orders/"+customer+"/"),
		).
		Then(
			etcd.OpPut(stock, []byte("0")),
			etcd.OpPut("/shop/orders/"+customer+"/article", []byte("book")),
			etcd.OpTxn(discount),
		).
		Else(etcd.OpGet(stock)).
		Commit(ctx)
	if err != nil {
		return err // nothing is ordered, unless etcd.MaybeApplied(err)
	}
	if !res.Succeeded {
		left, _ := res.KV(stock)
		_, err = fmt.Fprintf(out, "%s: no order, %s in stock\n", customer, left.Value)
		return err
	}
	_, err = fmt.Fprintf(out, "%s: ordered, with discount: %t\n", customer, res.Results[2].Txn.Succeeded)
	return err
}
