package etcd

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// grantLease grants a lease with an ID chosen here. That makes a grant repeatable: if it
// was applied before its answer was lost, the next one fails with ErrLeaseExists. (It is
// less likely that somebody else has drawn the same 63 bits than that memory fails.) A
// grant that fails but may have been applied is given up.
func (c *conn) grantLease(ctx context.Context, seconds int64) (*pb.LeaseGrantResponse, error) {
	const op = "grant"
	req := &pb.LeaseGrantRequest{ID: 1 + rand.Int64N(math.MaxInt64), TTL: seconds}
	var resp *pb.LeaseGrantResponse
	sent, returned := false, false
	defer func() { // a hook may panic after the server has granted it
		if !returned {
			c.giveUpLease(LeaseID(req.ID), false)
		}
	}()
	err := c.persist(ctx, request{op: op}, c.rpc.Closing(), func(ctx context.Context) (err error) {
		resp, err = do(ctx, c, request{op: op, write: true, repeatable: true}, c.rpc.Grant, req)
		if errors.Is(err, ErrLeaseExists) {
			resp, err = c.grantedLease(ctx, op, req.ID)
		}
		sent = sent || MaybeApplied(err)
		return err
	})
	returned = true
	if err == nil {
		return resp, nil
	}
	if sent {
		c.giveUpLease(LeaseID(req.ID), false)
		err = maybeApplied(err)
	}
	return nil, err
}

// grantedLease asks for what the lost answer to a grant would have said.
func (c *conn) grantedLease(ctx context.Context, op string, id int64) (*pb.LeaseGrantResponse, error) {
	resp, err := do(ctx, c, request{op: op}, c.rpc.TimeToLive, &pb.LeaseTimeToLiveRequest{ID: id})
	if err == nil && resp.TTL < 0 {
		err = answered(op, "", ErrLeaseNotFound) // it has ended since
	}
	if err != nil {
		return nil, maybeApplied(err)
	}
	return &pb.LeaseGrantResponse{Header: resp.Header, ID: id, TTL: resp.GrantedTTL}, nil
}

// revocations are the times to wait before revoking a lease that was given up: again and
// again while it isn't found, because its grant may still be on the way.
var revocations = []time.Duration{0, 100 * time.Millisecond, time.Second, 4 * time.Second}

// giveUpLease revokes a lease that nobody will use, in the background. If it is not
// certain that it was granted, it may be about to be. If this fails, the lease ends by
// itself.
func (c *conn) giveUpLease(id LeaseID, granted bool) {
	_ = c.rpc.Start(func() { // a closed client can't revoke
		for _, wait := range revocations {
			if !rpc.Pause(context.Background(), c.rpc.Closing(), wait) {
				return
			}
			err := c.revokeInTurn(id)
			if granted || !errors.Is(err, ErrLeaseNotFound) {
				return
			}
		}
	})
}

// revokeInTurn revokes a lease while not too many other revocations are under way.
func (c *conn) revokeInTurn(id LeaseID) error {
	select {
	case c.revoking <- struct{}{}:
		defer func() { <-c.revoking }()
	case <-c.rpc.Closing():
		return ErrClosed
	}
	ctx, cancel := context.WithTimeout(inBackground(context.Background()), c.cfg.RequestTimeout)
	defer cancel()
	return c.revoke(ctx, id)
}

func (c *conn) revoke(ctx context.Context, id LeaseID) error {
	_, err := do(ctx, c, request{op: "revoke", write: true, repeatable: true}, c.rpc.Revoke, &pb.LeaseRevokeRequest{ID: int64(id)})
	return err
}

// endLease does the work of RevokeLease.
func (c *conn) endLease(ctx context.Context, id LeaseID) error {
	err := c.revoke(ctx, id)
	if errors.Is(err, ErrLeaseNotFound) {
		return nil
	}
	return err
}
