package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// heldKeys looks after the keys of the locks that are held: the key is the lock, and
// whoever deletes it, or binds it to another lease, ends the lock for everyone but
// its holder. The keys of all locks are read together, which costs less than a watch
// for each and misses nothing, whatever was compacted.
//
// One goroutine works for it while any lock is held (run); it ends with the client.
type heldKeys struct {
	client *Client

	mu      sync.Mutex // guards what follows; never held over a request
	claims  map[*claim]struct{}
	running bool

	wake chan struct{} // tells run that a lock was taken
}

func newHeldKeys(c *Client) *heldKeys {
	return &heldKeys{client: c, claims: make(map[*claim]struct{}), wake: make(chan struct{}, 1)}
}

// keyCheck is how often the key of a held lock is looked at, or as often as its lease
// is renewed if that is more often.
const keyCheck = 2 * time.Second

// keysPerCheck is how many keys are read by one request, the default limit of a
// server.
const keysPerCheck = 128

// add begins to look after the key of a lock that was just taken.
func (h *heldKeys) add(c *claim) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.running {
		if err := h.client.start(h.run); err != nil {
			return err
		}
		h.running = true
	}
	c.checked = time.Now()
	h.claims[c] = struct{}{}
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return nil
}

// drop ends that.
func (h *heldKeys) drop(c *claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.claims, c)
}

// run looks at the keys until none is held.
func (h *heldKeys) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, ok := h.untilDue()
		if !ok {
			return
		}
		timer.Reset(wait)
		select {
		case <-h.wake:
			continue
		case <-h.client.closing:
			return
		case <-timer.C:
		}
		for due := h.due(); len(due) > 0; {
			n := h.fitting(due)
			h.check(due[:n])
			due = due[n:]
		}
	}
}

// interval is how often the key of c is looked at.
func (c *claim) interval() time.Duration { return min(keyCheck, c.session.ttl/renewalsPerTTL) }

// untilDue returns how long no key is to be looked at. It reports false, and the
// goroutine must end, when there is none.
func (h *heldKeys) untilDue() (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.claims) == 0 {
		h.running = false
		return 0, false
	}
	wait := keyCheck
	for c := range h.claims {
		wait = min(wait, c.interval()-time.Since(c.checked))
	}
	return wait, true
}

// due returns the claims whose keys are to be looked at, with those soon after them.
func (h *heldKeys) due() []*claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	var due []*claim
	now := time.Now()
	for c := range h.claims {
		if now.Sub(c.checked) >= c.interval()/2 {
			c.checked = now
			due = append(due, c)
		}
	}
	return due
}

// fitting returns how many of the first keys can be read by one request.
func (h *heldKeys) fitting(due []*claim) int {
	limit, bytes := min(keysPerCheck, h.client.cfg.MaxTxnOps, len(due)), 0
	for n, c := range due[:limit] {
		if bytes += len(c.stored) + 32; bytes > h.client.largest && n > 0 {
			return n
		}
	}
	return limit
}

// check reads the keys of claims and tells those that have lost theirs.
func (h *heldKeys) check(claims []*claim) {
	ctx, cancel := context.WithTimeout(inBackground(context.Background()), h.client.cfg.RequestTimeout)
	defer cancel()
	req := &pb.TxnRequest{}
	for _, c := range claims {
		req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{
			RequestRange: &pb.RangeRequest{Key: c.stored, KeysOnly: true},
		}})
	}
	resp, err := h.client.sendTxn(ctx, request{op: "check locks", key: claims[0].key}, req)
	if refusesOne(err) && len(claims) > 1 {
		// One of them may not be read any more: that is no reason for the others.
		h.check(claims[:len(claims)/2])
		h.check(claims[len(claims)/2:])
		return
	}
	if err != nil || len(resp.Responses) != len(claims) {
		return // the next time; without a connection the leases tell
	}
	for i, c := range claims {
		c.found(resp.Responses[i].GetResponseRange())
	}
}

// refusesOne reports whether an error may be about one key of several.
func refusesOne(err error) bool {
	return errors.Is(err, ErrPermissionDenied) || errors.Is(err, ErrTooManyOps) || errors.Is(err, ErrTooLarge)
}

// found takes in what was found under the key of c. The key is put
// once, at the revision that is the token.
func (c *claim) found(got *pb.RangeResponse) {
	switch kvs := got.GetKvs(); {
	case got == nil:
	case len(kvs) == 0:
		c.lose(ErrLockKeyDeleted)
	case kvs[0].CreateRevision != c.token || kvs[0].ModRevision != c.token:
		c.lose(ErrLockKeyReplaced)
	}
}
