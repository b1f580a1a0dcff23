package mirror

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"

	"github.com/tidwall/btree"

	"github.com/blueprint-go/etcd"
)

// BenchmarkStructures compares what could hold the keys: reads of random keys, and changes
// of which each is published by itself.
func BenchmarkStructures(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		keys := make([]string, n)
		t, tree, plain, ed := newTable("", maphash.MakeSeed()), &btree.Map[string, *entry]{}, map[string]*entry{}, &edit{}
		for i := range keys {
			keys[i] = fmt.Sprintf("/registry/services/%08d", i*7919%n)
			e := &entry{hash: t.hash(keys[i]), kv: etcd.KeyValue{Key: keys[i]}}
			t.put(ed, e)
			tree.Set(keys[i], e)
			plain[keys[i]] = e
		}
		// Not the strings of the entries, as readers have their own.
		asked := make([]string, 1<<16)
		for i := range asked {
			asked[i] = string([]byte(keys[rand.IntN(n)]))
		}
		run := func(name string, f func(key string) *entry) {
			b.Run(fmt.Sprintf("%s/keys=%d", name, n), func(b *testing.B) {
				var kv etcd.KeyValue
				for i := 0; b.Loop(); i++ {
					kv = f(asked[i%len(asked)]).kv
				}
				_ = kv
			})
		}
		run("get/table", t.get)
		run("get/btree", func(key string) *entry { e, _ := tree.Get(key); return e })
		run("get/map", func(key string) *entry { return plain[key] }) // can't be shared
		run("put/table", func(key string) *entry {
			t = t.clone()
			e := &entry{hash: t.hash(key), kv: etcd.KeyValue{Key: key}}
			t.put(&edit{}, e)
			return e
		})
		run("put/btree", func(key string) *entry {
			tree = tree.IsoCopy()
			e := &entry{hash: t.hash(key), kv: etcd.KeyValue{Key: key}}
			tree.Set(key, e)
			return e
		})
	}
}
