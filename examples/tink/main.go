// Command tink encrypts values with a keyset of Tink
// (https://developers.google.com/tink) and rotates it, on an etcd server inside
// its own process.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func main() {
	server, err := etcdtest.Start()
	if err != nil {
		log.Fatal(err)
	}
	err = run(context.Background(), etcd.DefaultConfig().WithEndpoints(server.Endpoints()...), os.Stdout)
	if closeErr := server.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, cfg *etcd.Config, out io.Writer) error {
	// A real program would read its keyset, sealed by a key management service, with
	// keyset.ReadWithAssociatedData.
	keys := keyset.NewManager()
	first, err := keys.Add(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return err
	}
	if err := keys.SetPrimary(first); err != nil {
		return err
	}
	ring, err := newRing(keys)
	if err != nil {
		return err
	}
	client, err := etcd.NewClient(cfg.WithKeyring(ring))
	if err != nil {
		return err
	}
	defer client.Close()

	if err := client.Put(ctx, "/app/password", []byte("correct horse")); err != nil {
		return err
	}
	if err := rotate(ctx, client, keys, ring); err != nil {
		return err
	}
	value, err := client.Get(ctx, "/app/password")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "read with the new key alone: %s\n", value)
	return err
}

// rotate replaces the primary key by a new one. A fleet completes each step in every
// process before the next.
func rotate(ctx context.Context, client *etcd.Client, keys *keyset.Manager, ring *etcd.Keyring) error {
	old, _ := ring.Primary()
	added, err := keys.Add(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return err
	}
	if err := use(ring, keys); err != nil { // distribute: everybody can read the new key
		return err
	}
	if err := keys.SetPrimary(added); err != nil {
		return err
	}
	if err := use(ring, keys); err != nil { // promote: everybody writes it
		return err
	}
	if _, err := client.Reencrypt(ctx, ""); err != nil { // rewrite
		return err
	}
	status, err := client.EncryptionStatus(ctx, "") // prove
	if err != nil {
		return err
	}
	if n := status.ByKey[keyID(added)]; n != status.Total {
		return fmt.Errorf("%d of %d values are under the new key", n, status.Total)
	}
	if err := keys.Delete(tinkID(old)); err != nil { // retire
		return err
	}
	return use(ring, keys)
}
