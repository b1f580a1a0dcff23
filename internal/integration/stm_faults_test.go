package integration

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

const staff = 4

// rota is who of the staff is on call: those that have a key under the prefix.
// Somebody has to be.
type rota struct {
	t      *testing.T
	prefix string
}

func (r rota) key(who int) string { return r.prefix + strconv.Itoa(who) }

// open has one on call.
func (r rota) open(ctx context.Context, c *etcd.Client) error { return c.Put(ctx, r.key(0), nil) }

// toggle lets one go if another is on call, and has one come who isn't.
func (r rota) toggle(tx *etcd.Tx) error {
	who := r.key(rand.N(staff))
	kvs, err := tx.GetPrefix(r.prefix)
	if err != nil {
		return err
	}
	r.check(kvs)
	switch on := contains(kvs, who); {
	case !on:
		tx.Put(who, nil)
	case len(kvs) > 1:
		tx.Delete(who)
	}
	return nil
}

func (r rota) audit(tx *etcd.Tx) error {
	kvs, err := tx.GetPrefix(r.prefix)
	if err == nil {
		r.check(kvs)
	}
	return err
}

func (r rota) check(kvs []etcd.KeyValue) { assert.NotEmpty(r.t, kvs, "nobody is on call") }

func contains(kvs []etcd.KeyValue, key string) bool {
	for _, kv := range kvs {
		if kv.Key == key {
			return true
		}
	}
	return false
}

// outcomes counts how the transactions of one client ended.
type outcomes struct {
	mu sync.Mutex
	tally
}

// enoughCommits is how many transactions of a client make the faults that they
// were committed through worth their name.
const enoughCommits = 100

func (o *outcomes) committed() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acknowledged
}

func (o *outcomes) count(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		o.acknowledged++
	case etcd.MaybeApplied(err):
		o.unknown++
	default:
		o.refused++
	}
}

// workload is what one client does with its data.
type workload struct {
	name   string
	client *etcd.Client
	money  bank
	oncall rota
	done   outcomes
}

// Transfers between accounts, and a constraint that two transactions break together
// which keep it alone (write skew).
func TestTransactKeepsMoneyAndConstraintsThroughFaults(t *testing.T) {
	t.Parallel()
	seed := drawSeed(t)
	c := newCluster(t)
	var all []*workload
	for _, m := range modes {
		p := prefix(t) + m.name
		w := &workload{name: m.name, client: client(t, m.set(c.config())), money: bank{t, p + "/bank/"}, oncall: rota{t, p + "/rota/"}}
		require.NoError(t, w.money.open(within(t, busyTimeout), w.client))
		require.NoError(t, w.oncall.open(within(t, busyTimeout), w.client))
		all = append(all, w)
	}
	n := startNemesis(c, seed)
	t.Cleanup(func() { n.logIfFailed(t) })
	var working sync.WaitGroup
	for _, w := range all {
		for _, f := range w.transactions() {
			working.Go(func() {
				for !t.Failed() && (!n.hasDealt() || w.done.committed() <= enoughCommits) {
					ctx, cancel := context.WithTimeout(context.Background(), longCall)
					w.done.count(w.client.Transact(ctx, f))
					cancel()
				}
			})
		}
	}
	working.Wait()
	n.stop()
	c.leader()
	for _, w := range all {
		t.Logf("%s: %d acknowledged, %d unknown, %d not applied", w.name, w.done.acknowledged, w.done.unknown, w.done.refused)
		ctx := within(t, busyTimeout)
		require.NoError(t, w.client.Transact(ctx, w.money.audit))
		require.NoError(t, w.client.Transact(ctx, w.oncall.audit))
	}
}

// transactions returns what is done at the same time.
func (w *workload) transactions() []func(tx *etcd.Tx) error {
	all := []func(tx *etcd.Tx) error{w.money.audit, w.money.auditOneByOne, w.oncall.audit}
	for range 4 {
		all = append(all, w.money.transfer, w.oncall.toggle)
	}
	return all
}
