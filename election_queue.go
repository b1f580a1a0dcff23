package etcd

import (
	"context"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Queue lists who leads and who stands for election: the leader first, of which [Claim.Held] is
// true, and then the candidates in the order in which they would lead. That is by priority, and
// then by age; a successor that was named and does not lead yet goes before them. [Claim.Candidate]
// and [Claim.Priority] are what a candidate was made with ([WithCandidate], [WithPriority]).
//
// It takes one round trip for the keys, and then one for each of their leases, sixteen at a time; a
// claim whose lease has ended by then is left out. Nobody waits for it, and it is over as soon as
// it is made: never decide by it who may do what.
//
// A claim whose record can't be decoded is listed with its [Claim.Err]. If somebody deleted the
// candidate's key of a leader, who leads on, the claim is that of the leader's key, and says nothing
// of its owner. Keys under the name that are none of an election are passed over. If nobody leads or
// stands for election, the list is empty and the error nil.
//
// Even [WithBothKeys] it lists neither leaders nor candidates of clientv3, and an empty list doesn't
// say that nobody leads: [Election.Leader] knows them.
func (e *Election) Queue(ctx context.Context) ([]Claim, error) {
	const op = "queue"
	resp, err := e.client.sendTxn(ctx, request{op: op, key: e.name}, &pb.TxnRequest{Success: e.ranges.reads(false)})
	if err != nil {
		return nil, err
	}
	s, err := e.ranges.standingAt(resp.Header.GetRevision(), resp.Responses, true)
	if err != nil {
		return nil, answered(op, e.name, err)
	}
	d := e.client.codec.decoding(ctx)
	defer d.end()
	var claims []Claim
	for _, one := range s.inTurn() {
		claim := e.claimOf(one.kv)
		claim.Candidate, claim.Priority = one.id, int(math.MaxInt64-one.place)
		claim.Held = one.leads(s)
		if claim.Held {
			claim.Token = s.token()
		}
		claim.tell(&d, one.kv)
		claims = append(claims, claim)
	}
	if s.leader != nil && (len(claims) == 0 || !claims[0].Held) { // its candidate's key was deleted
		leader := e.claimOf(s.leader)
		leader.Key, leader.Held = e.name+leaderEnd, true
		claims = append([]Claim{leader}, claims...)
	}
	return e.client.timeLeft(ctx, request{op: op, key: e.name}, claims)
}

func (e *Election) claimOf(kv *mvccpb.KeyValue) Claim {
	return Claim{Name: e.name, Token: kv.CreateRevision, Lease: LeaseID(kv.Lease)}
}
