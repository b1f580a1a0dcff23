package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/memserver"
)

// Nothing changes but the configuration. In etcd lies an authenticated ciphertext.
func ExampleConfig_WithEncryption() {
	key := bytes.Repeat([]byte{1}, 32) // from a secret store; etcd.GenerateKey makes one
	client, end := exampleClient(etcd.DefaultConfig().WithEncryption(key))
	defer end()
	ctx := context.Background()

	if err := client.Put(ctx, "/password", []byte("hunter2")); err != nil {
		log.Fatal(err)
	}
	password, err := client.Get(ctx, "/password")
	if err != nil {
		log.Fatal(err)
	}
	stored, err := client.Raw().Get(ctx, "/password")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, stored in %d bytes that hold it: %v\n", password, len(stored.Kvs[0].Value), bytes.Contains(stored.Kvs[0].Value, password))
	// Output: hunter2, stored in 71 bytes that hold it: false
}

// A rotation without downtime: the new key encrypts, the old one still decrypts, and a
// pass rewrites what is stored with it. docs/encryption.md has it for many instances.
func ExampleClient_Reencrypt() {
	old, err := etcd.NewEncryptionKey(etcd.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	ring, err := etcd.NewKeyring(old)
	if err != nil {
		log.Fatal(err)
	}
	client, end := exampleClient(etcd.DefaultConfig().WithKeyring(ring))
	defer end()
	ctx := context.Background()
	storeUsers(ctx, client)

	fresh, err := etcd.NewEncryptionKey(etcd.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	if err := ring.Replace(fresh, old); err != nil {
		log.Fatal(err)
	}
	report, err := client.Reencrypt(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Rewritten, "rewritten")

	if err := ring.Replace(fresh); err != nil {
		log.Fatal(err)
	}
	role, err := client.Get(ctx, "/users/ann")
	fmt.Printf("%s %v\n", role, err)
	// Output:
	// 3 rewritten
	// admin <nil>
}

// A ring that is kept in etcd, sealed by a key of a key service. Its changes reach every
// process by themselves.
func ExampleCreateKeyring() {
	ctx := context.Background()
	server := memserver.New()
	plain, end := exampleClientOf(server, nil) // the ring itself is not encrypted by a client
	defer end()
	stored, err := etcd.CreateKeyring(ctx, plain, "/keyring", kms{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = stored.Close() }()

	client, end := exampleClientOf(server, etcd.DefaultConfig().WithKeyring(stored.Keyring()))
	defer end()
	if err := client.Put(ctx, "/password", []byte("hunter2")); err != nil {
		log.Fatal(err)
	}
	id, err := stored.AddKey(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := stored.Promote(ctx, id); err != nil {
		log.Fatal(err)
	}
	primary, _ := stored.Keyring().Primary()
	fmt.Println(len(stored.Info().Keys), "keys,", primary == id)
	// Output: 2 keys, true
}

// kms stands for a key service. It does not encrypt.
type kms struct{}

func (kms) Encrypt(plaintext, associated []byte) ([]byte, error) {
	return append(append([]byte("sealed:"), associated...), plaintext...), nil
}

func (kms) Decrypt(ciphertext, associated []byte) ([]byte, error) {
	plaintext, ok := bytes.CutPrefix(ciphertext, append([]byte("sealed:"), associated...))
	if !ok {
		return nil, errors.New("not sealed here")
	}
	return plaintext, nil
}
