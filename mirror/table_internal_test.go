package mirror

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// contents returns all entries of a table by key.
func contents(t *table) map[string]*entry {
	out := map[string]*entry{}
	for l := range t.leaves {
		for e := range l.all {
			out[e.kv.Key] = e
		}
	}
	return out
}

func TestVersionsOfATableDoNotChange(t *testing.T) {
	t.Parallel()
	seed := uint64(rand.Int64())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	now, model := newTable("", maphash.MakeSeed()), map[string]*entry{}
	type version struct {
		table table
		model map[string]*entry
	}
	var versions []version
	for range 200 {
		now = now.clone()
		ed := &edit{}
		for range random.IntN(100) {
			key := fmt.Sprint(random.IntN(3000))
			if random.IntN(4) == 0 {
				require.Same(t, model[key], now.remove(ed, key))
				delete(model, key)
				continue
			}
			e := &entry{hash: now.hash(key), kv: etcd.KeyValue{Key: key}}
			require.Same(t, model[key], now.put(ed, e))
			model[key] = e
		}
		versions = append(versions, version{now, maps.Clone(model)})
	}
	for i, v := range versions {
		require.Equal(t, len(v.model), v.table.len, "version %d", i)
		require.Equal(t, v.model, contents(&v.table), "version %d", i)
		for key := range 3000 {
			key := fmt.Sprint(key)
			require.Same(t, v.model[key], v.table.get(key), "version %d", i)
		}
	}
}

func TestKeysOfEqualHashBitsAreFound(t *testing.T) {
	t.Parallel()
	table, ed := newTable("", maphash.MakeSeed()), &edit{}
	table.most = 10
	var all []string
	for i := 0; len(all) < leafFull+10; i++ {
		// Hashes alike in their first bits can't be had from keys in time: said to be so.
		key := fmt.Sprint(i)
		all = append(all, key)
		table.put(ed, &entry{hash: 1<<20 + uint64(i), kv: etcd.KeyValue{Key: key}})
	}
	require.EqualValues(t, maxBits, table.most, "no other seed was taken")
	require.Equal(t, len(all), table.len)
	found := 0
	for _, key := range all {
		if e := table.get(key); e != nil && e.kv.Key == key {
			found++
		}
	}
	require.GreaterOrEqual(t, found, leafFull, "those before the other seed have its hashes")
	require.Len(t, contents(&table), len(all))
}
