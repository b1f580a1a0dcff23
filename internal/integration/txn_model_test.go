package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

var (
	txnTrees = flag.Int("txn.trees", 400, "how many random trees of transactions are compared with clientv3, per mode")
	txnSeed  = flag.Uint64("txn.seed", 0, "seed of the random trees; 0 means a new one")
)

// tree is a transaction that can be written for this package and for clientv3.
type tree struct {
	conditions []treeCondition
	then, els  []treeOp
}

type treeCondition struct {
	target string // value, version, create, mod, lease
	key    string
	prefix bool
	result string // as in clientv3
	value  string
	number int64  // of a version or a lease
	other  string // the key whose mod revision is compared with
}

type treeOp struct {
	kind  string // put, get, list, get prefix, get range, delete, delete prefix, delete range, txn
	key   string
	end   string
	value string
	lease int64
	txn   *tree
}

// The keys and prefixes are few, so that much depends on each.
var (
	treeKeys     = []string{"a/1", "a/2", "a/3", "b", "b/1", "c", "d/1", "d/2", "d/3", "e"}
	treePrefixes = []string{"a/", "b", "c", "d/", "none", ""}
	treeValues   = []string{"", "1", "2", "3"}
	treeResults  = []string{"=", "!=", "<", ">"}
)

// gardener makes trees.
type gardener struct {
	*rand.Rand
	leases []int64
}

func pick[T any](g *gardener, of []T) T { return of[g.IntN(len(of))] }

func (g *gardener) tree(depth int) *tree {
	t := &tree{}
	for range g.IntN(3) {
		t.conditions = append(t.conditions, g.condition())
	}
	for range g.IntN(4) {
		t.then = append(t.then, g.op(depth))
	}
	for range g.IntN(3) {
		t.els = append(t.els, g.op(depth))
	}
	return t
}

func (g *gardener) condition() treeCondition {
	c := treeCondition{
		target: pick(g, []string{"value", "value", "value", "version", "create", "mod", "lease"}),
		key:    pick(g, treeKeys),
		result: pick(g, treeResults),
		value:  pick(g, treeValues),
		number: int64(g.IntN(3)),
		other:  pick(g, treeKeys),
	}
	if c.target == "lease" {
		c.number = pick(g, g.leases)
	}
	if g.IntN(3) == 0 {
		c.prefix, c.key = true, pick(g, treePrefixes)
	}
	return c
}

func (g *gardener) op(depth int) treeOp {
	op := treeOp{
		kind: pick(g, []string{
			"put", "put", "put", "put", "get", "list", "get prefix", "get range", "delete", "delete prefix", "delete range", "txn", "txn", "txn",
		}),
		key: pick(g, treeKeys), value: pick(g, treeValues), lease: pick(g, g.leases),
	}
	switch op.kind {
	case "list", "get prefix", "delete prefix":
		op.key = pick(g, treePrefixes)
	case "get range", "delete range":
		op.end = op.key + pick(g, []string{"\x00", "/", "~"})
	case "txn":
		if depth == 0 {
			op.kind = "put"
			break
		}
		op.txn = g.tree(depth - 1)
	}
	return op
}

// reversed returns the tree with its operations in the opposite order.
func (t *tree) reversed() *tree {
	turn := func(ops []treeOp) []treeOp {
		out := slices.Clone(ops)
		slices.Reverse(out)
		for i := range out {
			if out[i].txn != nil {
				out[i].txn = out[i].txn.reversed()
			}
		}
		return out
	}
	return &tree{t.conditions, turn(t.then), turn(t.els)}
}

// comparesValues reports whether the tree has a condition on a value.
func (t *tree) comparesValues() bool {
	return slices.ContainsFunc(t.conditions, func(c treeCondition) bool { return c.target == "value" }) ||
		slices.ContainsFunc(slices.Concat(t.then, t.els), func(op treeOp) bool { return op.txn != nil && op.txn.comparesValues() })
}

// plot is where trees are planted: below a prefix.
type plot struct {
	prefix string
	mod    map[string]int64 // mod revisions, by key without the prefix
}

// own returns the transaction for this package.
func (s plot) own(c *etcd.Client, t *tree) *etcd.Txn {
	txn := c.Txn()
	for _, cond := range t.conditions {
		txn.If(s.ownCondition(cond))
	}
	for _, op := range t.then {
		txn.Then(s.ownOp(c, op))
	}
	for _, op := range t.els {
		txn.Else(s.ownOp(c, op))
	}
	return txn
}

func (s plot) ownCondition(c treeCondition) etcd.Condition {
	if c.target == "value" {
		term := etcd.Value(s.prefix + c.key)
		if c.prefix {
			term = term.OfPrefix()
		}
		return compared(c.result, []byte(c.value), term.Equal, term.NotEqual, term.Less, term.Greater)
	}
	term, n := map[string]func(string) etcd.NumberTerm{
		"version": etcd.Version, "create": etcd.CreateRevision, "mod": etcd.ModRevision, "lease": etcd.AttachedLease,
	}[c.target](s.prefix+c.key), c.number
	if c.prefix {
		term = term.OfPrefix()
	}
	if c.target == "create" || c.target == "mod" {
		n = s.mod[c.other]
	}
	return compared(c.result, n, term.Equal, term.NotEqual, term.Less, term.Greater)
}

func compared[T any](result string, operand T, equal, notEqual, less, greater func(T) etcd.Condition) etcd.Condition {
	return map[string]func(T) etcd.Condition{"=": equal, "!=": notEqual, "<": less, ">": greater}[result](operand)
}

func (s plot) ownOp(c *etcd.Client, op treeOp) etcd.Op {
	key, end := s.prefix+op.key, s.prefix+op.end
	switch op.kind {
	case "put":
		return etcd.OpPut(key, []byte(op.value), etcd.WithLease(etcd.LeaseID(op.lease)))
	case "get":
		return etcd.OpGet(key)
	case "list":
		return etcd.OpListPrefix(key)
	case "get prefix":
		return etcd.OpGetPrefix(key, etcd.WithLimit(2))
	case "get range":
		return etcd.OpGetRange(key, end)
	case "delete":
		return etcd.OpDelete(key)
	case "delete prefix":
		return etcd.OpDeletePrefix(key)
	case "delete range":
		return etcd.OpDeleteRange(key, end)
	default:
		return etcd.OpTxn(s.own(c, op.txn))
	}
}

// raw returns the transaction for clientv3.
func (s plot) raw(t *tree) (conditions []clientv3.Cmp, then, els []clientv3.Op) {
	for _, cond := range t.conditions {
		conditions = append(conditions, s.rawCondition(cond))
	}
	for _, op := range t.then {
		then = append(then, s.rawOp(op))
	}
	for _, op := range t.els {
		els = append(els, s.rawOp(op))
	}
	return conditions, then, els
}

func (s plot) rawCondition(c treeCondition) (cmp clientv3.Cmp) {
	key := s.prefix + c.key
	switch c.target {
	case "value":
		cmp = clientv3.Compare(clientv3.Value(key), c.result, c.value)
	case "version":
		cmp = clientv3.Compare(clientv3.Version(key), c.result, c.number)
	case "create":
		cmp = clientv3.Compare(clientv3.CreateRevision(key), c.result, s.mod[c.other])
	case "mod":
		cmp = clientv3.Compare(clientv3.ModRevision(key), c.result, s.mod[c.other])
	case "lease":
		cmp = clientv3.Compare(clientv3.LeaseValue(key), c.result, c.number)
	}
	if c.prefix {
		cmp = cmp.WithPrefix()
	}
	return cmp
}

func (s plot) rawOp(op treeOp) clientv3.Op {
	key, end := s.prefix+op.key, s.prefix+op.end
	switch op.kind {
	case "put":
		return clientv3.OpPut(key, op.value, clientv3.WithLease(clientv3.LeaseID(op.lease)))
	case "get":
		return clientv3.OpGet(key)
	case "list":
		return clientv3.OpGet(key, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	case "get prefix":
		return clientv3.OpGet(key, clientv3.WithPrefix(), clientv3.WithLimit(2))
	case "get range":
		return clientv3.OpGet(key, clientv3.WithRange(end))
	case "delete":
		return clientv3.OpDelete(key)
	case "delete prefix":
		return clientv3.OpDelete(key, clientv3.WithPrefix())
	case "delete range":
		return clientv3.OpDelete(key, clientv3.WithRange(end))
	default:
		return clientv3.OpTxn(s.raw(op.txn))
	}
}

func (s plot) commitRaw(ctx context.Context, c *clientv3.Client, t *tree) (*clientv3.TxnResponse, error) {
	conditions, then, els := s.raw(t)
	return c.Txn(ctx).If(conditions...).Then(then...).Else(els...).Commit()
}

// outcome prints what a transaction did, the same for both clients.
func (s plot) outcome(r *etcd.TxnResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "(%t", r.Succeeded)
	for _, res := range r.Results {
		switch {
		case res.Txn != nil:
			b.WriteString(s.outcome(res.Txn))
		case res.KVs == nil:
			fmt.Fprintf(&b, " [%d deleted]", res.Deleted)
		default:
			fmt.Fprintf(&b, " [%d found:%s]", res.Count, s.kvs(res.KVs))
		}
	}
	return b.String() + ")"
}

func (s plot) kvs(kvs []etcd.KeyValue) string {
	var b strings.Builder
	for _, kv := range kvs {
		fmt.Fprintf(&b, " %s=%s v%d l%d", strings.TrimPrefix(kv.Key, s.prefix), kv.Value, kv.Version, kv.Lease)
	}
	return b.String()
}

func (s plot) rawOutcome(succeeded bool, responses []*pb.ResponseOp) string {
	var b strings.Builder
	fmt.Fprintf(&b, "(%t", succeeded)
	for _, r := range responses {
		switch {
		case r.GetResponseTxn() != nil:
			b.WriteString(s.rawOutcome(r.GetResponseTxn().Succeeded, r.GetResponseTxn().Responses))
		case r.GetResponseRange() != nil:
			fmt.Fprintf(&b, " [%d found:", r.GetResponseRange().Count)
			for _, kv := range r.GetResponseRange().Kvs {
				fmt.Fprintf(&b, " %s=%s v%d l%d", strings.TrimPrefix(string(kv.Key), s.prefix), kv.Value, kv.Version, kv.Lease)
			}
			b.WriteString("]")
		default:
			fmt.Fprintf(&b, " [%d deleted]", r.GetResponseDeleteRange().GetDeleted())
		}
	}
	return b.String() + ")"
}

// refusals pairs the errors of this package with the server's own.
var refusals = map[error]error{
	etcd.ErrDuplicateKey: rpctypes.ErrDuplicateKey, etcd.ErrTooManyOps: rpctypes.ErrTooManyOps, etcd.ErrLeaseNotFound: rpctypes.ErrLeaseNotFound,
}

func refusalOf(err error) error {
	for own := range refusals {
		if errors.Is(err, own) {
			return own
		}
	}
	return err
}

// meddler changes a key when a transaction reaches the server, or when the next
// one does.
type meddler struct {
	key, value string
	lease      etcd.LeaseID
	del        bool
	wait       atomic.Int64 // transactions until then; below 0 means that it is done
}

func (g *gardener) meddler() *meddler {
	m := &meddler{key: pick(g, treeKeys), value: pick(g, treeValues), lease: etcd.LeaseID(pick(g, g.leases[:3])), del: g.IntN(3) == 0}
	m.wait.Store(int64(g.IntN(3)))
	return m
}

func (m *meddler) change(ctx context.Context, c *etcd.Client, p plot) error {
	if m.del {
		return second(c.Delete(ctx, p.prefix+m.key))
	}
	return c.Put(ctx, p.prefix+m.key, []byte(m.value), etcd.WithLease(m.lease))
}

// Random trees of transactions, through this package with values as each mode
// stores them, and through clientv3 with values that the server can compare: what
// is refused, which branch is taken at each node, what each operation finds, and
// what is left in the end are the same. That holds too when a key is changed while
// the transaction is under way: what counts is the state at the commit.
func TestNestedTransactionsActAsTheServersPlainOnes(t *testing.T) {
	t.Parallel()
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			const most = 9 // operations, so that some trees have too many
			srv, o := observedServer(t, etcdtest.WithMaxTxnOps(most))
			c := client(t, m.set(config(srv)).WithMaxTxnOps(most).WithTimeout(busyTimeout))
			plain := client(t, config(srv))
			ctx := t.Context()
			seed := *txnSeed
			if seed == 0 {
				seed = rand.Uint64()
			}
			t.Logf("seed %d", seed)
			g := &gardener{rand.New(rand.NewPCG(seed, 0)), []int64{0}}
			for range 2 {
				lease, err := plain.Grant(ctx, time.Hour)
				require.NoError(t, err)
				g.leases = append(g.leases, int64(lease))
			}
			g.leases = append(g.leases, 12345) // not granted

			counts := map[string]int{}
			for i := range *txnTrees {
				shape := g.tree(3)
				own, err := plotOf(ctx, c, "/own/")
				require.NoError(t, err)
				raw, err := plotOf(ctx, plain, "/raw/")
				require.NoError(t, err)
				what := fmt.Sprintf("tree %d: %+v", i, shape)

				meddler := g.meddler()
				o.around(func(req any) {
					if _, ok := req.(*pb.TxnRequest); ok && meddler.wait.Add(-1) == -1 {
						assert.NoError(t, meddler.change(ctx, c, own))
					}
				}, nil)
				res, err := own.own(c, shape).Commit(ctx)
				o.around(nil, nil)
				if meddler.wait.Load() < 0 {
					require.NoError(t, meddler.change(ctx, plain, raw))
				}
				refusal := refusalOf(err)
				counts[fmt.Sprint(refusal)]++
				if errors.Is(err, etcd.ErrDuplicateKey) || errors.Is(err, etcd.ErrTooManyOps) {
					requireRefusedByServer(t, what, plain.Raw(), shape, refusal, m.name == "plain" || !shape.comparesValues())
					continue
				}
				resp, rawErr := raw.commitRaw(ctx, plain.Raw(), shape)
				if err != nil {
					require.ErrorIs(t, rawErr, refusals[refusal], what)
					continue
				}
				require.NoError(t, rawErr, what)
				require.Equal(t, raw.rawOutcome(resp.Succeeded, resp.Responses), own.outcome(res), what)

				ownKVs, err := c.GetPrefix(ctx, own.prefix, 0)
				require.NoError(t, err)
				rawKVs, err := plain.GetPrefix(ctx, raw.prefix, 0)
				require.NoError(t, err)
				require.Equal(t, raw.kvs(rawKVs), own.kvs(ownKVs), what)
			}
			t.Logf("outcomes of %d trees: %v", *txnTrees, counts)
			require.Greater(t, counts["<nil>"], *txnTrees/4)
			for own := range refusals {
				require.Positive(t, counts[own.Error()], own)
			}
		})
	}
}

func plotOf(ctx context.Context, c *etcd.Client, prefix string) (plot, error) {
	kvs, err := c.GetPrefix(ctx, prefix, 0)
	s := plot{prefix, map[string]int64{}}
	for _, kv := range kvs {
		s.mod[strings.TrimPrefix(kv.Key, prefix)] = kv.ModRevision
	}
	return s, err
}

// requireRefusedByServer holds that the server refuses a tree as well. A key that
// one nested transaction puts and a later one deletes it lets pass, but not the
// other way round. exact says that the client has no more to count than it.
func requireRefusedByServer(t *testing.T, what string, c *clientv3.Client, shape *tree, want error, exact bool) {
	t.Helper()
	scratch := plot{"/scratch/", nil}
	_, err := scratch.commitRaw(t.Context(), c, shape)
	if errors.Is(want, etcd.ErrTooManyOps) {
		if exact {
			require.ErrorIs(t, err, rpctypes.ErrTooManyOps, what)
		}
		return
	}
	if !errors.Is(err, rpctypes.ErrDuplicateKey) {
		_, err = scratch.commitRaw(t.Context(), c, shape.reversed())
	}
	require.ErrorIs(t, err, rpctypes.ErrDuplicateKey, what)
}
