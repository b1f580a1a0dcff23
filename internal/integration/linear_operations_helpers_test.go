package integration

import (
	"context"
	"errors"
	"strconv"

	"github.com/stretchr/testify/assert"

	"github.com/blueprint-go/etcd"
)

// operations are what workers do, each with keys of one group. The step that an
// operation returns says what it has read and written. Where the call has failed,
// what it would have written is all that has to be in it.
var operations = []struct {
	weight int // how often it is drawn
	do     func(w *worker, ctx context.Context, g *group) (step, outcome, error)
}{
	{20, (*worker).get},
	{10, (*worker).put},
	{6, (*worker).putGuarded},
	{6, (*worker).delete},
	{14, (*worker).swap},
	{6, (*worker).update},
	{6, (*worker).create},
	{7, (*worker).bulkPut},
	{8, (*worker).bulkGet},
	{3, (*worker).bulkDelete},
	{14, (*worker).transact},
	{6, (*worker).transactPrefix},
}

// draw does a random operation.
func (w *worker) draw(ctx context.Context, g *group) (step, outcome, error) {
	total := 0
	for _, op := range operations {
		total += op.weight
	}
	at := w.random.IntN(total)
	for _, op := range operations {
		if at -= op.weight; at < 0 {
			return op.do(w, ctx, g)
		}
	}
	panic("the weights have changed")
}

// key returns the index of a random key of a group.
func (w *worker) key() int { return w.random.IntN(groupSize) }

// keys returns the indices of two or more keys of a group.
func (w *worker) keys() []int { return w.random.Perm(groupSize)[:2+w.random.IntN(groupSize-1)] }

// fresh returns a value that was never written.
func (w *worker) fresh() int64 { return w.history.values.Add(1) }

func stored(value int64) []byte { return []byte(strconv.FormatInt(value, 10)) }

// number returns the value that was read.
func (w *worker) number(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	assert.NoError(w.t, err)
	return n
}

// found is number for a key that may be missing.
func (w *worker) found(value []byte, err error) (int64, error) {
	switch {
	case errors.Is(err, etcd.ErrKeyNotFound):
		return missing, nil
	case err != nil:
		return missing, err
	}
	return w.number(value), nil
}

// decided is the outcome of an operation with a condition.
func decided(ok bool) outcome {
	if ok {
		return acknowledged
	}
	return declined
}

func (w *worker) get(ctx context.Context, g *group) (step, outcome, error) {
	i := w.key()
	value, err := w.found(w.client.Get(ctx, g.keys[i]))
	return step{"get", only(i, value), nothing}, acknowledged, err
}

func (w *worker) put(ctx context.Context, g *group) (step, outcome, error) {
	i, value := w.key(), w.fresh()
	err := w.client.Put(ctx, g.keys[i], stored(value))
	return step{"put", nothing, only(i, value)}, acknowledged, err
}

func (w *worker) putGuarded(ctx context.Context, g *group) (step, outcome, error) {
	i, value := w.key(), w.fresh()
	err := w.client.Put(ctx, g.keys[i], stored(value), etcd.WithGuard())
	return step{"guarded put", nothing, only(i, value)}, acknowledged, err
}

// update replaces what it finds. What it makes of a value that has changed since
// must never be seen.
func (w *worker) update(ctx context.Context, g *group) (step, outcome, error) {
	i, s := w.key(), step{"update", nothing, nothing}
	err := w.client.Update(ctx, g.keys[i], func(old []byte) ([]byte, error) {
		w.history.ledger.forbid(s)
		s.expect[i], s.write[i] = missing, w.fresh()
		if old != nil {
			s.expect[i] = w.number(old)
		}
		return stored(s.write[i]), nil
	})
	return s, acknowledged, err
}

func (w *worker) delete(ctx context.Context, g *group) (step, outcome, error) {
	i := w.key()
	n, err := w.client.Delete(ctx, g.keys[i])
	return step{"delete", nothing, only(i, missing)}, deletedKeys(n), err
}

func (w *worker) swap(ctx context.Context, g *group) (step, outcome, error) {
	i, value := w.key(), w.fresh()
	old := g.value(i)
	if old == missing {
		old = w.fresh() // what no key ever holds
	}
	ok, err := w.client.CompareAndSwap(ctx, g.keys[i], stored(old), stored(value))
	return step{"compare and swap", only(i, old), only(i, value)}, decided(ok), err
}

func (w *worker) create(ctx context.Context, g *group) (step, outcome, error) {
	i, value := w.key(), w.fresh()
	ok, err := w.client.PutIfNotExists(ctx, g.keys[i], stored(value))
	return step{"put if not exists", only(i, missing), only(i, value)}, decided(ok), err
}

func (w *worker) bulkPut(ctx context.Context, g *group) (step, outcome, error) {
	s, kvs := step{"bulk put", nothing, nothing}, map[string][]byte{}
	for _, i := range w.keys() {
		s.write[i] = w.fresh()
		kvs[g.keys[i]] = stored(s.write[i])
	}
	return s, acknowledged, w.client.BulkPut(ctx, kvs)
}

func (w *worker) bulkGet(ctx context.Context, g *group) (step, outcome, error) {
	values, err := w.client.BulkGet(ctx, g.keys[:])
	s := step{"bulk get", registers{}, nothing}
	for i, key := range g.keys {
		if value, ok := values[key]; ok {
			s.expect[i] = w.number(value)
		}
	}
	return s, acknowledged, err
}

func (w *worker) bulkDelete(ctx context.Context, g *group) (step, outcome, error) {
	s, keys := step{"bulk delete", nothing, nothing}, []string(nil)
	for _, i := range w.keys() {
		s.write[i] = missing
		keys = append(keys, g.keys[i])
	}
	n, err := w.client.BulkDelete(ctx, keys)
	return s, deletedKeys(n), err
}

// transact reads some keys, and writes some of these.
func (w *worker) transact(ctx context.Context, g *group) (step, outcome, error) {
	keys := w.keys()[:2]
	return w.transaction(ctx, step{"transact", nothing, nothing}, func(tx *etcd.Tx, s *step) error {
		for _, i := range keys {
			var err error
			if s.expect[i], err = w.found(tx.Get(g.keys[i])); err != nil {
				return err
			}
		}
		w.writeSome(tx, g, s, keys)
		return nil
	})
}

// transactPrefix reads all keys of the group by their prefix, and writes some.
func (w *worker) transactPrefix(ctx context.Context, g *group) (step, outcome, error) {
	keys := w.keys()[:2]
	return w.transaction(ctx, step{"transact prefix", nothing, nothing}, func(tx *etcd.Tx, s *step) error {
		kvs, err := tx.GetPrefix(g.prefix)
		if err != nil {
			return err
		}
		s.expect = registers{}
		for _, kv := range kvs {
			i, err := strconv.Atoi(kv.Key[len(g.prefix):])
			assert.NoError(w.t, err)
			s.expect[i] = w.number(kv.Value)
		}
		w.writeSome(tx, g, s, keys)
		return nil
	})
}

// transaction has each run begin with the step as it is given. What a run before
// the last would have written must never be seen.
func (w *worker) transaction(ctx context.Context, begin step, run func(tx *etcd.Tx, s *step) error) (step, outcome, error) {
	s := begin
	err := w.client.Transact(ctx, func(tx *etcd.Tx) error {
		w.history.ledger.forbid(s)
		s = begin
		return run(tx, &s)
	})
	o := acknowledged
	o.deleted = 0
	for i := range groupSize {
		if s.write[i] == missing && s.expect[i] != missing {
			o.deleted++
		}
	}
	return s, o, err
}

// writeSome writes to one or two of the keys, or none.
func (w *worker) writeSome(tx *etcd.Tx, g *group, s *step, keys []int) {
	for _, i := range keys[:w.random.IntN(3)] {
		if w.random.IntN(4) == 0 {
			s.write[i] = missing
			tx.Delete(g.keys[i])
			continue
		}
		s.write[i] = w.fresh()
		tx.Put(g.keys[i], stored(s.write[i]))
	}
}
