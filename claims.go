package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/envelope"
	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// Claim is a place in the queue for a [Lock], an [RWLock], a [Semaphore] or the lead of an
// [Election], or what is queued for: see [Lock.Queue] and [Election.Queue].
type Claim struct {
	// Name is the name of the lock, or the election.
	Name string
	// Key is the key of the claim; of the two of [WithBothKeys], this package's. Of an election it
	// is the candidate's key.
	Key string
	// Held reports whether the claim holds the lock, or leads; otherwise it waits. Of a claim
	// [WithBothKeys] whose one key was deleted, which is lost, nothing tells the other from a
	// claim of one key.
	Held bool
	// Shared reports whether the claim is to read, of an [RWLock].
	Shared bool
	// Weight is how much the claim takes of a [Semaphore]; 0 for other locks.
	Weight int
	// Candidate is the candidate's name in an [Election], by [WithCandidate]; empty if it has none.
	Candidate string
	// Priority is the candidate's priority in an [Election], by [WithPriority].
	Priority int
	// Token is the create revision of the key: for its holder, the [Lock.Token]. Of the leader
	// of an [Election] it is the [Election.Token].
	Token int64
	// Owner is who made the claim. It is zero if the claim doesn't say: its client had no
	// key to encrypt it with, its keys are those of package concurrency
	// ([WithConcurrencyKeys]), or for the reason in Err.
	Owner Owner
	// Since is when the claim was made, in milliseconds by the clock of its owner. It is
	// zero where the claim doesn't say.
	Since time.Time
	// Lease is the lease that the claim is attached to.
	Lease LeaseID
	// TTL is the time that the lease has left if it isn't renewed, in whole seconds: a little
	// less than its time to live for an owner that is alive.
	TTL time.Duration
	// Err says why what the claim says of its owner could not be decoded: a [*DecodeError], with
	// [ErrUnknownKey] also for a client without encryption, or [ErrKeyUnavailable].
	Err error
}

// Owner is who made a [Claim].
type Owner struct {
	// Host is the name of the machine, as its kernel reports it.
	Host string
	// PID is the process there.
	PID int
	// Text is that of [WithOwner].
	Text string
}

// leaseQueries is how many leases a list of claims asks for at a time. The doc of Lock.Queue
// names it.
const leaseQueries = 16

// listClaims lists the claims in the ranges of a queue, the oldest first. A claim may have a key
// in each of them; it holds if none is older in any of its ranges.
func (c *Client) listClaims(ctx context.Context, name string, ranges ...keys.Range) ([]Claim, error) {
	const op = "queue"
	req := &pb.TxnRequest{}
	for _, r := range ranges {
		req.Success = append(req.Success, txntree.Range(&pb.RangeRequest{Key: r.Start, RangeEnd: r.End}))
	}
	resp, err := c.sendTxn(ctx, request{op: op, key: name}, req)
	if err != nil {
		return nil, err
	}
	if len(resp.Responses) != len(ranges) {
		return nil, answered(op, name, errIncomplete)
	}
	d := c.codec.decoding(ctx)
	defer d.end()
	byToken := map[int64]int{}
	var claims []Claim
	for i, r := range resp.Responses {
		found := slices.DeleteFunc(r.GetResponseRange().GetKvs(), func(kv *mvccpb.KeyValue) bool { return !isClaimIn(ranges[i], kv) })
		slices.SortFunc(found, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
		for i, kv := range found {
			if n, ok := byToken[kv.CreateRevision]; ok { // its other key
				claims[n].Held = claims[n].Held && i == 0
				continue
			}
			byToken[kv.CreateRevision] = len(claims)
			claim := Claim{Name: name, Token: kv.CreateRevision, Lease: LeaseID(kv.Lease), Held: i == 0}
			claim.tell(&d, kv)
			claims = append(claims, claim)
		}
	}
	slices.SortFunc(claims, func(a, b Claim) int { return cmp.Compare(a.Token, b.Token) })
	return c.timeLeft(ctx, request{op: op, key: name}, claims)
}

// tell takes over what the record of a claim says.
func (claim *Claim) tell(d *decoding, kv *mvccpb.KeyValue) {
	if claim.Key = d.codec.namespace.visible(kv.Key); len(kv.Value) == 0 {
		return
	}
	got, err := d.keyValue(kv, false)
	var r claimRecord
	switch {
	case err != nil:
	case envelope.IsEnvelope(got.Value): // as stored, for a client without a key
		err = &DecodeError{Key: claim.Key, Err: ErrUnknownKey}
	default:
		if err = json.Unmarshal(got.Value, &r); err != nil {
			err = &DecodeError{Key: claim.Key, Err: errs.WithUnspoken(ErrEncoding, err)}
		}
	}
	if claim.Err = err; err != nil {
		return
	}
	claim.Owner = Owner{Host: r.Host, PID: r.PID, Text: r.Text}
	if r.Since != 0 {
		claim.Since = time.UnixMilli(r.Since)
	}
}

// timeLeft asks for the time that the leases of claims have left, and returns those whose lease
// is still there.
func (c *Client) timeLeft(ctx context.Context, r request, claims []Claim) ([]Claim, error) {
	var (
		mu    sync.Mutex // guards left and first
		left  = map[LeaseID]time.Duration{}
		first error
		wg    sync.WaitGroup
		next  = make(chan LeaseID)
	)
	for range min(leaseQueries, len(claims)) {
		wg.Go(func() {
			for id := range next {
				ttl, err := c.leaseLeft(ctx, r, id)
				mu.Lock()
				left[id], first = ttl, cmp.Or(first, err)
				mu.Unlock()
			}
		})
	}
	asked := map[LeaseID]bool{} // a session has many claims
	for _, claim := range claims {
		if !asked[claim.Lease] {
			asked[claim.Lease] = true
			next <- claim.Lease
		}
	}
	close(next)
	wg.Wait()
	if first != nil {
		return nil, first
	}
	for i := range claims {
		claims[i].TTL = left[claims[i].Lease]
	}
	return slices.DeleteFunc(claims, func(claim Claim) bool { return claim.TTL < 0 }), nil
}

// leaseLeft returns the time that a lease has left; it is negative if there is no such lease.
func (c *Client) leaseLeft(ctx context.Context, r request, id LeaseID) (time.Duration, error) {
	resp, err := do(ctx, c.conn, r, c.rpc.TimeToLive, &pb.LeaseTimeToLiveRequest{ID: int64(id)})
	if errors.Is(err, ErrLeaseNotFound) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	return time.Duration(resp.TTL) * time.Second, nil
}

// countClaims counts the keys in the ranges of a queue.
func (c *Client) countClaims(ctx context.Context, name string, ranges ...keys.Range) (n int64, err error) {
	const op = "count"
	req := &pb.TxnRequest{}
	for _, r := range ranges {
		req.Success = append(req.Success, txntree.Range(&pb.RangeRequest{Key: r.Start, RangeEnd: r.End, CountOnly: true}))
	}
	resp, err := c.sendTxn(ctx, request{op: op, key: name}, req)
	if err != nil {
		return 0, err
	}
	for _, r := range resp.Responses {
		n += r.GetResponseRange().GetCount()
	}
	return n, nil
}
