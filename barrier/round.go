package barrier

import (
	"context"
	"strings"
	"time"

	"github.com/blueprint-go/etcd"
)

// round is the state of a double barrier.
type round struct {
	members map[string]int64 // the keys of those who are in, with their create revisions
	open    int64            // the create revision of the open key; 0 if there is none
	turn    int64            // the mod revision of the turn key
}

// judge decides whether a wait is over. It is asked for each state, and again with late after
// lateAfter without news: then one does what another should have done.
type judge func(ctx context.Context, r *round, late bool) (over bool, err error)

const lateAfter = time.Second

// follow waits until decide says that the wait is over.
func (d *Double) follow(ctx context.Context, decide judge) error {
	for n := 0; ; n++ {
		over, err := d.watch(ctx, decide)
		switch {
		case over:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !passes(err):
			return err
		}
		pause(ctx, backoff(n))
	}
}

// watch is follow until the watch ends.
func (d *Double) watch(ctx context.Context, decide judge) (over bool, err error) {
	list, err := d.place.client.Txn().Then(etcd.OpListPrefix(d.place.root)).Commit(ctx)
	if err != nil {
		return false, err
	}
	r := &round{members: map[string]int64{}}
	for _, kv := range list.Results[0].KVs {
		d.apply(r, etcd.EventPut, kv)
	}
	if over, err := decide(ctx, r, false); over {
		return true, err
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	events := d.place.client.WatchPrefix(watching, d.place.root, etcd.WithRevision(list.Revision+1))
	timer := time.NewTimer(lateAfter)
	defer timer.Stop()
	for {
		late := false
		select {
		case <-timer.C:
			late = true
		case resp, ok := <-events:
			if !ok || resp.Err() != nil {
				return false, resp.Err()
			}
			for _, ev := range resp.Events {
				d.apply(r, ev.Type, *ev.Kv)
			}
		}
		timer.Reset(lateAfter)
		if over, err := decide(ctx, r, late); over {
			return true, err
		}
	}
}

// apply notes the change of a key.
func (d *Double) apply(r *round, t etcd.EventType, kv etcd.KeyValue) {
	created := kv.CreateRevision
	if t == etcd.EventDelete {
		created = 0
	}
	switch {
	case kv.Key == d.open():
		r.open = created
	case kv.Key == d.turn():
		r.turn = kv.ModRevision
	case !strings.HasPrefix(kv.Key, d.in()):
	case created == 0:
		delete(r.members, kv.Key)
	default:
		r.members[kv.Key] = created
	}
}
