package etcd

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// inTotal is the rule of semaphores: a claim holds when its weight fits into the size beside
// those of all older ones, whether these hold or wait. So a heavy one is never overtaken.
//
// A claim is put only where all have the same size, which it says itself.
type inTotal struct {
	conn *conn
	// all is the range of the claims, smaller and larger what is before and behind those that
	// say the same size.
	all, smaller, larger keys.Range
	size, weight         int
	known                *knownRoom
}

// inTotal returns the rule of a semaphore.
func (c *conn) inTotal(name string, size, weight int) (inTotal, error) {
	r := inTotal{conn: c, size: size, weight: weight, known: &knownRoom{}}
	all, err := c.prefixRange(name + "\x00" + semaphoreKind)
	if err != nil {
		return r, err
	}
	same, err := c.prefixRange(name + "\x00" + semaphoreKind + strconv.Itoa(size) + "/")
	r.all, r.smaller, r.larger = all, keys.Range{Start: all.Start, End: same.Start}, keys.Range{Start: same.End, End: all.End}
	return r, err
}

// request implements [precedence]. A claim without a queue is bound to there being none younger
// than the revision at which it would have held; at first that is the last one that the semaphore
// knows of, or the one before all claims.
func (r inTotal) request(c *claim, queue bool) *pb.TxnRequest {
	own := keys.Range{Start: c.stored}
	put, get := c.put(), txntree.Range(c.read())
	claims := func(limit int64) *pb.RequestOp {
		return txntree.Range(&pb.RangeRequest{Key: r.all.Start, RangeEnd: r.all.End, KeysOnly: true, Limit: limit})
	}
	// None weighs less than 1, so that there is no room if there are so many.
	enough := int64(r.size-r.weight) + 1
	if queue {
		return &pb.TxnRequest{
			Compare: txntree.Absent(r.smaller, r.larger, own),
			Success: []*pb.RequestOp{claims(enough), put},
			Failure: []*pb.RequestOp{get, claims(0)},
		}
	}
	if c.seen.free == 0 {
		c.seen = r.known.or(vacancy{free: r.size})
	}
	return &pb.TxnRequest{
		Compare: append(txntree.Absent(own), txntree.NoneSince(r.all, c.seen.at)),
		Success: []*pb.RequestOp{put},
		Failure: []*pb.RequestOp{get, claims(enough)},
	}
}

// answered implements [precedence].
func (r inTotal) answered(c *claim, resp *pb.TxnResponse) (verdict, error) {
	c.token = resp.Header.GetRevision()
	if len(resp.Responses) == 0 {
		return refused, errIncomplete
	}
	first, last := resp.Responses[0].GetResponseRange(), resp.Responses[len(resp.Responses)-1].GetResponseRange()
	there := resp.Succeeded
	switch {
	case there && !c.mayWait:
		return r.bound(c)
	case there:
		last = first
	default:
		there = c.foundOwn(first)
	}
	before := c.token
	if !there {
		before++ // of all that are there
	}
	room, _, err := r.room(c, before, last.GetKvs())
	switch {
	case err != nil && there:
		return queued, nil // ahead fails in the same way, and then it is withdrawn
	case err != nil:
		return refused, err
	case there && room >= 0:
		r.known.note(vacancy{c.token, room}, r.weight)
		return holds, nil
	case there:
		return queued, nil
	case room >= 0:
		c.seen = vacancy{resp.Header.GetRevision(), room + r.weight}
		r.known.note(c.seen, r.weight)
		return undecided, nil
	}
	return refused, nil
}

// bound returns what it means that a claim without a queue was put, which is bound to having room.
// If that is of a history that is no more, the claim may have none.
func (r inTotal) bound(c *claim) (verdict, error) {
	if c.token <= c.seen.at {
		r.known.forget()
		c.repeated = true // it must go
		return refused, ErrRevisionRegressed
	}
	r.known.note(vacancy{c.token, c.seen.free - r.weight}, r.weight)
	return holds, nil
}

// room returns how much is left beside c and those of the claims that were made before a
// revision, less than 0 if there is no room for it, and the weights of those. It fails with
// ErrSemaphoreSize if one of the claims says another size.
func (r inTotal) room(c *claim, before int64, claims []*mvccpb.KeyValue) (int, map[string]int, error) {
	left, weights := r.size-r.weight, make(map[string]int, len(claims))
	for _, kv := range claims {
		weight, err := r.weightOf(kv.Key)
		if err != nil {
			return 0, nil, err
		}
		if bytes.Equal(kv.Key, c.stored) || kv.CreateRevision >= before {
			continue
		}
		weights[r.conn.visible(kv.Key)] = weight
		if left >= 0 { // also if so many are beyond it that the sum can't be counted
			left -= weight
		}
	}
	return left, weights, nil
}

// weightOf returns the weight of a claim by its key.
func (r inTotal) weightOf(stored []byte) (int, error) {
	said, _, _ := strings.Cut(keys.Text(stored[len(r.all.Start):]), "\x00")
	size, weight, _ := strings.Cut(said, "/")
	n, err := strconv.Atoi(size)
	if err == nil && n != r.size {
		return 0, fmt.Errorf("%w: %d here, others use %d", ErrSemaphoreSize, r.size, n)
	}
	w, bad := strconv.Atoi(weight)
	if err != nil || bad != nil || w < 1 || w > r.size {
		return 0, fmt.Errorf("%w: %q is no claim to it", ErrSemaphoreSize, r.conn.visible(stored))
	}
	return w, nil
}

// ahead implements [precedence]. A waiter sees the claims go and counts, and asks again only
// when there should be room.
func (r inTotal) ahead(ctx context.Context, l *contender, op string, c *claim) (func(context.Context) error, error) {
	found, now, err := l.look(ctx, op, c, &pb.RangeRequest{Key: r.all.Start, RangeEnd: r.all.End, KeysOnly: true})
	if err != nil {
		return nil, err
	}
	room, weights, err := r.room(c, c.token, found[0])
	if err != nil {
		return nil, answered(op, l.name, err)
	}
	if room >= 0 {
		return nil, nil
	}
	return func(ctx context.Context) error {
		return l.client.goneFrom(ctx, request{op: op, key: l.name}, r.all, now+1, func(key string) bool {
			delete(weights, key)
			return key == c.key || r.fits(weights)
		})
	}, nil
}

// fits reports whether there is room beside claims of those weights.
func (r inTotal) fits(weights map[string]int) bool {
	left := r.size - r.weight
	for _, weight := range weights {
		if left -= weight; left < 0 {
			return false
		}
	}
	return true
}
