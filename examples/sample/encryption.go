package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/blueprint-go/etcd"
)

// encryption stores a value that only clients with the key can read.
func encryption(ctx context.Context, cfg *etcd.Config) error {
	const key = prefix + "encrypted/secret"

	encryptionKey := make([]byte, 32)
	if _, err := rand.Read(encryptionKey); err != nil {
		return err
	}
	client, err := etcd.NewClient(cfg.WithEncryption(encryptionKey))
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Printf("Created encrypted client (encryption: %t)\n", client.IsEncrypted())

	secret := []byte(`{"password": "super-secret-password", "api_key": "sk-1234567890"}`)
	if err := client.Put(ctx, key, secret); err != nil {
		return err
	}
	fmt.Printf("Stored encrypted data: %s\n", key)

	value, err := client.Get(ctx, key)
	if err != nil {
		return err
	}
	fmt.Printf("Retrieved decrypted data: %s\n", value)

	// The client underneath shows what the server holds.
	raw, err := client.Raw().Get(ctx, key)
	if err != nil {
		return err
	}
	for _, kv := range raw.Kvs {
		fmt.Printf("Raw encrypted data (first 50 chars): %+q...\n", kv.Value[:min(50, len(kv.Value))])
	}
	fmt.Println("Encryption demo completed")
	return nil
}
