package integration

import (
	"github.com/blueprint-go/etcd"
)

func keysOf(kvs []etcd.KeyValue) []string {
	keys := make([]string, len(kvs))
	for i, kv := range kvs {
		keys[i] = kv.Key
	}
	return keys
}
