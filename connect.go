package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// check waits until the cluster answers, DialTimeout has passed, or every endpoint has
// failed for a reason that waiting can't cure.
func (c *conn) check() error {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.DialTimeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	// Owned by this call: it ends with ctx, and the call waits for it.
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			changed := c.rpc.Changed()
			if c.rpc.IsHopeless() {
				stop(errHopeless)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	err := c.ping(ctx)
	stop(nil)
	<-watched
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		e.Op, e.Key = "connect", ""
		if errors.Is(e.Err, errHopeless) {
			e.Err = errs.WithKind(ErrUnavailable, c.rpc.DialError())
		}
	}
	return err
}

// ping makes a linearizable read, as etcdctl's "endpoint health" does: only a
// member that reaches a quorum answers it. That the user may not read the key
// is an answer too, in etcd's own words: a proxy denies as well.
func (c *conn) ping(ctx context.Context) error {
	_, err := do(ctx, c, request{op: "ping", impatient: true}, c.rpc.Get, &pb.RangeRequest{Key: []byte("health"), KeysOnly: true})
	if errors.Is(err, ErrPermissionDenied) && rpc.SaidByEtcd(err) {
		return nil
	}
	return err
}

// errHopeless ends the check of NewClient early.
var errHopeless = errors.New("no endpoint can be used")
