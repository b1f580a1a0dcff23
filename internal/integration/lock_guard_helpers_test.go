package integration

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// guardedWrite is one way to write keys under p: prepare makes what it needs, and call must
// change something.
type guardedWrite struct {
	prepare func(ctx context.Context, c *etcd.Client, p string) error
	call    func(ctx context.Context, c *etcd.Client, p string) error
}

// oldValues puts "old" under the keys that most calls change.
func oldValues(ctx context.Context, c *etcd.Client, p string) error {
	return c.BulkPut(ctx, map[string][]byte{p + "a": []byte("old"), p + "b": []byte("old")})
}

// mustChange turns the result of a call that reports whether it changed something.
func mustChange(changed bool, err error) error {
	if err == nil && !changed {
		return errUnchanged
	}
	return err
}

type unchangedError struct{}

func (unchangedError) Error() string { return "nothing was changed" }

var errUnchanged error = unchangedError{}

// oldWord puts "old" as a value of a type.
func oldWord(ctx context.Context, c *etcd.Client, p string) error {
	return words(c, p).Put(ctx, "a", "old")
}

// words returns the values of a type under p.
func words(c *etcd.Client, p string) *etcd.Typed[string] { return etcd.NewTyped[string](c, p) }

// guardedWrites are all ways to write keys, by the method and what is special about the call.
var guardedWrites = map[string]guardedWrite{
	"Client.Put": {call: func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Put(ctx, p+"a", []byte("new"))
	}},
	"Client.Put WithResult": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		var r etcd.WriteResult
		err := c.Put(ctx, p+"a", []byte("new"), etcd.WithResult(&r), etcd.WithPrevKV())
		if err == nil && (string(r.PrevKV.Value) != "old" || r.Revision <= r.PrevKV.ModRevision) {
			return errUnchanged
		}
		return err
	}},
	"Client.Put WithGuard": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Put(ctx, p+"a", []byte("new"), etcd.WithGuard())
	}},
	"Client.Put WithGuard of a missing key": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Put(ctx, p+"a", []byte("new"), etcd.WithGuard())
	}},
	"Client.Put WithCondition": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Put(ctx, p+"a", []byte("new"), etcd.WithCondition(etcd.Exists(p+"b")))
	}},
	"Client.Put WithCondition on a value": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Put(ctx, p+"a", []byte("new"), etcd.WithCondition(etcd.Value(p+"b").Equal([]byte("old"))))
	}},
	"Client.PutWithTTL": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return second(c.PutWithTTL(ctx, p+"a", []byte("new"), time.Minute))
	}},
	"Client.PutWithLease": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		lease, err := c.Grant(ctx, time.Minute)
		if err != nil {
			return err
		}
		return c.PutWithLease(ctx, p+"a", []byte("new"), lease)
	}},
	"Client.PutIfChanged": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return mustChange(c.PutIfChanged(ctx, p+"a", []byte("new")))
	}},
	"Client.PutIfNotExists": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return mustChange(c.PutIfNotExists(ctx, p+"a", []byte("new")))
	}},
	"Client.CompareAndSwap": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return mustChange(c.CompareAndSwap(ctx, p+"a", []byte("old"), []byte("new")))
	}},
	"Client.CompareAndSwap WithCondition": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return mustChange(c.CompareAndSwap(ctx, p+"a", []byte("old"), []byte("new"), etcd.WithCondition(etcd.Exists(p+"b"))))
	}},
	"Client.CompareAndSwapRevision": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return mustChange(c.CompareAndSwapRevision(ctx, p+"a", 0, []byte("new")))
	}},
	"Client.CompareAndDelete": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return mustChange(c.CompareAndDelete(ctx, p+"a", []byte("old")))
	}},
	"Client.CompareAndDeleteRevision": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		_, revision, err := c.GetWithRevision(ctx, p+"a")
		if err != nil {
			return err
		}
		return mustChange(c.CompareAndDeleteRevision(ctx, p+"a", revision))
	}},
	"Client.Update": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Update(ctx, p+"a", func(old []byte) ([]byte, error) { return append(old, '+'), nil })
	}},
	"Client.Update that deletes": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Update(ctx, p+"a", func([]byte) ([]byte, error) { return nil, nil })
	}},
	"Client.Transact": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Transact(ctx, func(tx *etcd.Tx) error {
			old, err := tx.Get(p + "a")
			tx.Put(p+"b", old)
			tx.Delete(p + "a")
			return err
		})
	}},
	"Client.Transact WithCondition": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Transact(ctx, func(tx *etcd.Tx) error { tx.Put(p+"c", nil); return nil }, etcd.WithCondition(etcd.Exists(p+"a")))
	}},
	"Client.Delete": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		n, err := c.Delete(ctx, p+"a")
		return mustChange(n == 1, err)
	}},
	"Client.Delete WithCondition": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		n, err := c.Delete(ctx, p+"a", etcd.WithCondition(etcd.Exists(p+"b")))
		return mustChange(n == 1, err)
	}},
	"Client.DeletePrefix": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		n, err := c.DeletePrefix(ctx, p)
		return mustChange(n == 2, err)
	}},
	"Client.DeletePrefix InChunks": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		n, err := c.DeletePrefix(ctx, p, etcd.InChunks())
		return mustChange(n == 2, err)
	}},
	"Client.BulkPut": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.BulkPut(ctx, manyNew(p, 300)) // nested
	}},
	"Client.BulkPut InChunks": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.BulkPut(ctx, manyNew(p, 20), etcd.InChunks(etcd.WithChunkKeys(8)))
	}},
	"Client.BulkPut WithCondition": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.BulkPut(ctx, manyNew(p, 3), etcd.WithCondition(etcd.Exists(p+"a")))
	}},
	"Client.BulkDelete": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		n, err := c.BulkDelete(ctx, []string{p + "a", p + "b"})
		return mustChange(n == 2, err)
	}},
	"Client.BulkDelete InChunks": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		n, err := c.BulkDelete(ctx, []string{p + "a", p + "b"}, etcd.InChunks())
		return mustChange(n == 2, err)
	}},
	"Client.BulkLoad": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return second(c.BulkLoad(ctx, maps.All(manyNew(p, 20)), etcd.WithChunkKeys(8)))
	}},
	"Client.Import": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		var file bytes.Buffer
		if _, err := c.Export(ctx, &file, p); err != nil {
			return err
		}
		return second(c.Import(ctx, &file))
	}},
	"Client.MoveKey": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.MoveKey(ctx, p+"a", p+"c")
	}},
	"Client.CopyKey": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.CopyKey(ctx, p+"a", p+"c")
	}},
	"Client.WithLock": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.WithLock(ctx, p+"inner", func(ctx context.Context) error { return c.Put(ctx, p+"a", nil) })
	}},
	"Client.Lead": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Lead(ctx, p+"inner", nil, func(ctx context.Context) error { return c.Put(ctx, p+"a", nil) })
	}},
	"Txn.Commit": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return committed(ctx, c.Txn().If(etcd.Exists(p+"a")).Then(etcd.OpPut(p+"a", nil), etcd.OpGet(p+"b")).Else(etcd.OpGet(p+"b")))
	}},
	"Txn.Commit of many": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		var ops []etcd.Op
		for key := range manyNew(p, etcd.DefaultMaxTxnOps) {
			ops = append(ops, etcd.OpPut(key, []byte(key)))
		}
		return committed(ctx, c.Txn().Then(ops...))
	}},
	"Txn.Commit on a value": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return committed(ctx, c.Txn().If(etcd.Value(p+"a").Equal([]byte("old")), etcd.Exists(p+"b")).Then(etcd.OpDeletePrefix(p)))
	}},
	"Txn.Commit that may change otherwise": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		res, err := c.Txn().If(etcd.Missing(p+"a")).Then(etcd.OpPut(p+"a", nil)).Else(etcd.OpPut(p+"b", []byte("new")), etcd.OpGet(p+"b")).Commit(ctx)
		return mustChange(err == nil && !res.Succeeded && string(res.Results[1].KVs[0].Value) == "new", err)
	}},
	"Txn.Commit nested": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		inner := c.Txn().If(etcd.Value(p + "a").Equal([]byte("old"))).Then(etcd.OpPut(p+"a", nil)).Else(etcd.OpDelete(p + "b"))
		return committed(ctx, c.Txn().If(etcd.Exists(p+"a")).Then(etcd.OpTxn(inner)))
	}},
	"Typed.Put": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return words(c, p).Put(ctx, "a", "new")
	}},
	"Typed.Create": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return mustChange(words(c, p).Create(ctx, "a", "new"))
	}},
	"Typed.Delete": {oldValues, func(ctx context.Context, c *etcd.Client, p string) error {
		return mustChange(words(c, p).Delete(ctx, "a"))
	}},
	"Typed.CompareAndSwap": {oldWord, func(ctx context.Context, c *etcd.Client, p string) error {
		w := words(c, p)
		old, err := w.Get(ctx, "a")
		if err != nil {
			return err
		}
		return mustChange(w.CompareAndSwap(ctx, old, "new"))
	}},
	"Typed.Update": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return words(c, p).Update(ctx, "a", func(string, bool) (string, bool, error) { return "new", true, nil })
	}},
	"Typed.PutIn": {nil, func(ctx context.Context, c *etcd.Client, p string) error {
		return c.Transact(ctx, func(tx *etcd.Tx) error { return words(c, p).PutIn(tx, "a", "new") })
	}},
}

// committed commits a transaction whose conditions hold.
func committed(ctx context.Context, txn *etcd.Txn) error {
	res, err := txn.Commit(ctx)
	return mustChange(err == nil && res.Succeeded, err)
}

// manyNew returns n key-values under p.
func manyNew(p string, n int) map[string][]byte {
	out := map[string][]byte{}
	for i := range n {
		out[p+strings.Repeat("k", i)] = []byte("new")
	}
	return out
}

// fenceGuard looks for the comparisons of a lock in what reaches a server.
type fenceGuard struct {
	mu      sync.Mutex
	key     string // of the claim, as stored
	token   int64
	writes  int
	unbound []string
	// stall holds up the checks by which a client notices that its key is gone.
	stall chan struct{}
}

// watchFor begins to look for another claim.
func (g *fenceGuard) watchFor(key string, token int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.key, g.token, g.writes, g.unbound = key, token, 0, nil
}

// found returns how many writes have reached the server, and those that were not bound.
func (g *fenceGuard) found() (int, []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.writes, g.unbound
}

// see takes in a request before the server handles it.
func (g *fenceGuard) see(req any) {
	if isKeyCheck(req) {
		<-g.stall
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !writesKeys(req) || g.key == "" {
		return
	}
	g.writes++
	if !g.binds(req) {
		g.unbound = append(g.unbound, strings.ToValidUTF8(req.(interface{ String() string }).String(), "?"))
	}
}

// isKeyCheck reports whether a request is the one by which a client looks whether its locks
// still have their keys.
func isKeyCheck(req any) bool {
	txn, ok := req.(*pb.TxnRequest)
	return ok && len(txn.Compare) == 0 && len(txn.Success) > 0 && !slices.ContainsFunc(txn.Success, func(op *pb.RequestOp) bool {
		read := op.GetRequestRange()
		return read == nil || !read.KeysOnly || !bytes.Contains(read.Key, []byte{0})
	})
}

// writesKeys reports whether a request changes keys other than the claims of locks.
func writesKeys(req any) bool {
	claim := func(key []byte) bool { return bytes.Contains(key, []byte{0}) }
	switch r := req.(type) {
	case *pb.PutRequest:
		return !claim(r.Key)
	case *pb.DeleteRangeRequest:
		return !claim(r.Key)
	case *pb.TxnRequest:
		return slices.ContainsFunc(slices.Concat(r.Success, r.Failure), func(op *pb.RequestOp) bool { return writesKeys(asRequest(op)) })
	}
	return false
}

// asRequest returns the request in an operation.
func asRequest(op *pb.RequestOp) any {
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestPut:
		return r.RequestPut
	case *pb.RequestOp_RequestDeleteRange:
		return r.RequestDeleteRange
	case *pb.RequestOp_RequestTxn:
		return r.RequestTxn
	}
	return nil
}

// binds reports whether nothing in a request can be changed without the claim.
func (g *fenceGuard) binds(req any) bool {
	txn, ok := req.(*pb.TxnRequest)
	if !ok {
		return !writesKeys(req)
	}
	free := slices.Concat(txn.Success, txn.Failure)
	if slices.ContainsFunc(txn.Compare, func(c *pb.Compare) bool {
		return string(c.Key) == g.key && c.Target == pb.Compare_CREATE && c.Result == pb.Compare_EQUAL && c.GetCreateRevision() == g.token
	}) {
		free = txn.Failure
	}
	return !slices.ContainsFunc(free, func(op *pb.RequestOp) bool { return !g.binds(asRequest(op)) })
}

// guarding returns a lock that is held, a context that it guards, and the key of its claim.
func guarding(t testing.TB, c *etcd.Client, name string) (lock *etcd.Lock, ctx context.Context, key string) {
	t.Helper()
	lock = newLock(t, c, name, etcd.WithLockTTL(time.Minute))
	require.NoError(t, lock.Lock(t.Context()))
	return lock, lock.Guard(t.Context()), claimOf(t, c, name)
}

// claimOf returns the key of the only claim to a lock, as stored.
func claimOf(t testing.TB, c *etcd.Client, name string) string {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	require.NoError(t, err)
	var out []string
	for _, kv := range resp.Kvs {
		if strings.Contains(string(kv.Key), name+"\x00") {
			out = append(out, string(kv.Key))
		}
	}
	require.Len(t, out, 1)
	return out[0]
}
