package queue

import (
	"context"

	"github.com/blueprint-go/etcd"
)

// room is what a queue with a capacity knows of the space in it. Each push of such a queue also
// puts a key, the same one, and is bound to what was known of it: so no other push has come
// since the jobs were counted. Jobs may have gone since; that only makes room.
type room struct {
	// turn holds one value; whoever puts it in may push.
	turn chan struct{}
	// pushed is the mod revision of the last push when there were count jobs; -1 if that is
	// not known.
	pushed, count int64
}

func newRoom() *room { return &room{turn: make(chan struct{}, 1), pushed: -1} }

// pushKey is put by each push of a queue with a capacity.
func (l layout) pushKey() string { return l.root + "pushed" }

// pushWithin pushes if there is room. It takes one round trip if this process was the last to
// push, and there was room; a second one, and more while others push, if not.
func (q *store) pushWithin(ctx context.Context, ops []etcd.Op) error {
	r := q.room
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-q.ctx.Done():
		return errClosed
	}
	defer func() { <-r.turn }()
	count := etcd.OpListPrefix(q.jobs(), etcd.WithLimit(1))
	look := []etcd.Op{count, etcd.OpListPrefix(q.pushKey())}
	for counted := false; ; counted = true {
		for r.pushed < 0 || !counted && r.count >= q.options.capacity {
			res, err := q.client.Txn().Then(look...).Commit(ctx)
			if err != nil {
				return err
			}
			r.note(res)
			counted = true
		}
		if r.count >= q.options.capacity {
			return ErrFull
		}
		res, err := q.client.Txn().
			If(etcd.ModRevision(q.pushKey()).Equal(r.pushed)).
			Then(append(ops[:len(ops):len(ops)], etcd.OpPut(q.pushKey(), nil), count)...).
			Else(look...).
			Commit(ctx)
		if err != nil {
			r.pushed = -1
			return err
		}
		if res.Succeeded {
			r.pushed, r.count = res.Revision, res.Results[len(res.Results)-1].Count
			return nil
		}
		r.note(res)
	}
}

// note takes over what a look has found.
func (r *room) note(res *etcd.TxnResult) {
	r.count, r.pushed = res.Results[0].Count, 0
	for _, kv := range res.Results[1].KVs {
		r.pushed = kv.ModRevision
	}
}
