package etcd

import (
	"context"
	"errors"
	"iter"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// LeaderInfo says who leads.
type LeaderInfo struct {
	// Value is what the leader campaigned with or has proclaimed since; nil if it could not be
	// decoded.
	Value []byte
	// Token is the leader's [Election.Token], which grows from leader to leader; of a leader of
	// clientv3's [WithBothKeys], the create revision of its key.
	Token int64
	// Revision is the revision at which the leader put the value, or [Client.Reencrypt] has
	// encrypted it anew since.
	Revision int64
	// Lease is the leader's lease.
	Lease LeaseID
}

// Leader returns who leads, in one round trip, as linearizable as [Client.Get]. It fails with
// [ErrVacant] if nobody does, or if what lies under the leader's key has no lease, and so is no
// leader's. If the value can't be decoded, the error matches [*DecodeError] and the rest of the
// LeaderInfo is there. [WithBothKeys] it knows clientv3's leaders too.
func (e *Election) Leader(ctx context.Context) (LeaderInfo, error) {
	const op = "leader"
	kv, _, err := e.leaderKey(ctx, op)
	if err != nil {
		return LeaderInfo{}, err
	}
	if kv == nil {
		return LeaderInfo{}, answered(op, e.name, ErrVacant)
	}
	info, err := e.leaderInfo(ctx, kv)
	return info, answered(op, e.name, err)
}

// leaderKey reads the leader's key, nil if there is none with a lease, and the revision of that.
func (e *Election) leaderKey(ctx context.Context, op string) (*mvccpb.KeyValue, int64, error) {
	if e.beside != nil {
		return e.leaderOfEither(ctx, op)
	}
	resp, err := do(ctx, e.client.conn, request{op: op, key: e.name}, e.client.rpc.Get, &pb.RangeRequest{Key: e.ranges.leader})
	if err != nil || len(resp.Kvs) == 0 || resp.Kvs[0].Lease == 0 {
		return nil, resp.GetHeader().GetRevision(), err
	}
	return resp.Kvs[0], resp.Header.GetRevision(), nil
}

func (e *Election) leaderInfo(ctx context.Context, kv *mvccpb.KeyValue) (LeaderInfo, error) {
	got, err := e.client.keyValue(ctx, kv, false)
	return LeaderInfo{Value: got.Value, Token: got.CreateRevision, Revision: got.ModRevision, Lease: got.Lease}, err
}

// Observe delivers who leads: first the present leader, if there is one, and then each new leader
// and each value that a leader proclaims, in order. What it delivers was true at Revision. It
// passes over a leader that is known to have gone by the time it could be told, and waits while
// nobody leads. When [Client.Reencrypt] encrypts the value anew, it delivers the same leader and
// value once more, at a new Revision.
//
//	for leader, err := range election.Observe(ctx) {
//		if leader.Token == 0 {
//			return err // the loop ends
//		}
//		…
//	}
//
// [WithBothKeys] it may leave out whoever, and whatever value, was replaced before it has read who
// leads. The key of a leader of clientv3 is as old as its candidacy: until it proclaims another value,
// Revision is that of a time when it did not lead yet, and Revision and Token may both be lower than
// those of the leader before.
//
// It goes on through lost connections, restarts and compactions: where history is gone, it reads
// who leads, and may then leave out who did in between, but never the present one. An error with a
// LeaderInfo is about its value alone ([Election.Leader]). One without is the last pair, and says
// why it ends: as in [WatchResponse.Err], or that ctx has. Leaving the loop ends it and leaves
// nothing behind; it may be ranged over again, and by several goroutines.
func (e *Election) Observe(ctx context.Context) iter.Seq2[LeaderInfo, error] {
	const op = "observe"
	return func(yield func(LeaderInfo, error) bool) {
		if err := e.usable(ctx); err != nil {
			yield(LeaderInfo{}, fail(op, e.name, err))
			return
		}
		watching, cancel := context.WithCancel(ctx)
		defer cancel()
		o := &observation{election: e, yield: yield}
		for failures := 0; ; {
			before := o.seen
			err := o.run(watching, op)
			switch {
			case o.over:
				return
			case e.isClosing():
				err = fail(op, e.name, e.closedReason())
			case ctx.Err() != nil:
				err = fail(op, e.name, errs.OfContext(ctx))
			case errors.Is(err, ErrCompacted), errors.Is(err, ErrRevisionRegressed), IsRetryable(err):
				if failures++; o.seen != before {
					failures = 1
				}
				rpc.Pause(watching, e.life.Done(), rpc.Backoff(failures))
				continue
			}
			yield(LeaderInfo{}, err)
			return
		}
	}
}

// observation is one loop over Observe.
type observation struct {
	election *Election
	yield    func(LeaderInfo, error) bool
	seen     int64 // the mod revision that was delivered last
	over     bool  // the loop was left
}

// run reads who leads and follows that until the watch fails.
func (o *observation) run(ctx context.Context, op string) error {
	e := o.election
	if e.beside != nil {
		return o.runBeside(ctx, op)
	}
	now, revision, err := e.leaderKey(ctx, op)
	if err != nil {
		return err
	}
	if now != nil && now.ModRevision != o.seen {
		if !o.deliver(ctx, now) {
			return nil
		}
	}
	changes, err := e.client.watchClaim(ctx, e.ranges.leader, watchOptions{revision: revision + 1, raw: true})
	if err != nil {
		return ofCall(op, e.name, err)
	}
	for {
		select {
		case <-e.life.Done():
			return e.closedReason()
		case r, open := <-changes:
			for _, ev := range ofLast(r.Events) {
				if !o.deliver(ctx, ev.raw) {
					return nil
				}
			}
			if !open || r.Err() != nil {
				return ofCall(op, e.name, r.Err())
			}
		}
	}
}

// ofLast returns the events of the leader that there is after all of them. What has no lease is
// no leader's.
func ofLast(events []*Event) []*Event {
	first := len(events)
	for i, ev := range slices.Backward(events) {
		if ev.Type == EventDelete || ev.raw.Lease == 0 || ev.Kv.CreateRevision != events[len(events)-1].Kv.CreateRevision {
			break
		}
		first = i
	}
	return events[first:]
}

// deliver gives a leader to the loop, and reports whether that goes on.
func (o *observation) deliver(ctx context.Context, kv *mvccpb.KeyValue) bool {
	o.seen = kv.ModRevision
	info, err := o.election.leaderInfo(ctx, kv)
	o.over = !o.yield(info, answered("observe", o.election.name, err))
	return !o.over
}
