package integration

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/blueprint-go/etcd"
)

const (
	accounts = 5
	opening  = 100 // what each account has at first
)

// bank is some accounts under a prefix, each a number. Between them money is only
// moved.
type bank struct {
	t      *testing.T
	prefix string
}

func (b bank) account(i int) string { return b.prefix + strconv.Itoa(i) }

// open stores the accounts.
func (b bank) open(ctx context.Context, c *etcd.Client) error {
	values := map[string][]byte{}
	for i := range accounts {
		values[b.account(i)] = []byte(strconv.Itoa(opening))
	}
	return c.BulkPut(ctx, values)
}

// transfer moves money from one account to another, or the same, if it has enough.
func (b bank) transfer(tx *etcd.Tx) error {
	from, to, amount := rand.N(accounts), rand.N(accounts), 1+rand.N(opening/2)
	balance, err := numberIn(tx, b.account(from))
	if err != nil || balance < amount {
		return err
	}
	return errors.Join(addIn(tx, b.account(from), -amount), addIn(tx, b.account(to), amount))
}

// auditOneByOne and audit hold that all money is there and no account overdrawn,
// read key by key and as a prefix. Not even a run that is void sees money that is
// on its way.
func (b bank) auditOneByOne(tx *etcd.Tx) error {
	var balances []int
	for i := range accounts {
		n, err := numberIn(tx, b.account(i))
		if err != nil {
			return err
		}
		balances = append(balances, n)
	}
	b.check(balances)
	return nil
}

func (b bank) audit(tx *etcd.Tx) error {
	kvs, err := tx.GetPrefix(b.prefix)
	if err != nil {
		return err
	}
	var balances []int
	for _, kv := range kvs {
		n, err := strconv.Atoi(string(kv.Value))
		if err != nil {
			return err
		}
		balances = append(balances, n)
	}
	b.check(balances)
	return nil
}

func (b bank) check(balances []int) {
	sum := 0
	for _, n := range balances {
		assert.GreaterOrEqual(b.t, n, 0)
		sum += n
	}
	assert.Equal(b.t, accounts*opening, sum)
}
