package etcd

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// heldKeys watches over the keys of held locks, and of those that are waited for: the key is
// the lock, or the place in its queue, and whoever deletes it, or binds it to another lease,
// ends that for everyone except its holder. The
// keys of all locks are read together, which costs less than a watch for each and misses
// nothing, whatever was compacted.
//
// One goroutine works for it while there are any (run); it ends with the client.
type heldKeys struct {
	conn *conn

	mu      sync.Mutex // guards what follows; never held over a request
	keys    map[*heldKey]struct{}
	running bool
	next    time.Time // when run looks again at the latest

	wake chan struct{} // tells run that a key is due earlier
}

// heldKey is the key of one claim to a lock.
type heldKey struct {
	key    string
	stored []byte // key as the server knows it
	token  int64  // the create revision of key
	lease  LeaseID
	ttl    time.Duration
	// lose is called with the reason when the lock, or the place, is lost.
	lose func(reason error)
	// rewritten says that its holder puts the key again; bound is the mod revision at which it
	// was still attached to its lease, for the goroutine that checks.
	rewritten bool
	bound     int64

	keeper  *heldKeys // nil before add
	checked time.Time // when the key was last looked at; guarded by the mu of keeper
}

func newHeldKeys(c *conn) *heldKeys {
	return &heldKeys{conn: c, keys: make(map[*heldKey]struct{}), wake: make(chan struct{}, 1)}
}

// keyCheck is how often the key of a held lock is checked, unless its lease is renewed
// more often: then the key is checked as often.
const keyCheck = 2 * time.Second

// keysPerCheck is how many keys one request reads: a server's default limit.
const keysPerCheck = 128

// add starts watching over the keys of a lock that was just taken.
func (h *heldKeys) add(keys ...*heldKey) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.running {
		if err := h.conn.rpc.Start(h.run); err != nil {
			return err
		}
		h.running = true
	}
	now, early := time.Now(), false
	for _, k := range keys {
		k.keeper, k.checked = h, now
		h.keys[k] = struct{}{}
		early = early || now.Add(k.interval()).Before(h.next)
	}
	if !early {
		return nil // run looks in time by itself
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return nil
}

// has reports whether this client holds a claim by that key, created at that revision.
func (h *heldKeys) has(stored []byte, token int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.keys {
		if k.token == token && bytes.Equal(k.stored, stored) {
			return true
		}
	}
	return false
}

// drop stops watching over a key.
func (k *heldKey) drop() {
	if k.keeper == nil {
		return
	}
	k.keeper.mu.Lock()
	defer k.keeper.mu.Unlock()
	delete(k.keeper.keys, k)
}

// dropAll stops watching over keys.
func dropAll(keys []*heldKey) {
	for _, k := range keys {
		k.drop()
	}
}

// run checks the keys until no lock is held.
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
		case <-h.conn.rpc.Closing():
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

// interval is how often the key is checked.
func (k *heldKey) interval() time.Duration { return min(keyCheck, k.ttl/renewalsPerTTL) }

// untilDue returns how long no key needs a check. It returns false if there is no key;
// then the goroutine must end.
func (h *heldKeys) untilDue() (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.keys) == 0 {
		h.running = false
		return 0, false
	}
	wait := keyCheck
	for k := range h.keys {
		wait = min(wait, k.interval()-time.Since(k.checked))
	}
	h.next = time.Now().Add(wait)
	return wait, true
}

// due returns the keys to check now, and those that are due soon.
func (h *heldKeys) due() []*heldKey {
	h.mu.Lock()
	defer h.mu.Unlock()
	var due []*heldKey
	now := time.Now()
	for k := range h.keys {
		if now.Sub(k.checked) >= k.interval()/2 {
			k.checked = now
			due = append(due, k)
		}
	}
	return due
}

// fitting returns how many of the first keys can be read by one request.
func (h *heldKeys) fitting(due []*heldKey) int {
	limit, bytes := min(keysPerCheck, h.conn.cfg.MaxTxnOps, len(due)), 0
	for n, k := range due[:limit] {
		if bytes += len(k.stored) + 32; bytes > h.conn.rpc.Largest && n > 0 {
			return n
		}
	}
	return limit
}

// check reads keys and notifies the holders of lost ones.
func (h *heldKeys) check(keys []*heldKey) {
	ctx, cancel := context.WithTimeout(inBackground(context.Background()), h.conn.cfg.RequestTimeout)
	defer cancel()
	req := &pb.TxnRequest{}
	for _, k := range keys {
		req.Success = append(req.Success, txntree.Range(&pb.RangeRequest{Key: k.stored, KeysOnly: true}))
	}
	resp, err := do(ctx, h.conn, request{op: "check locks", key: keys[0].key}, h.conn.rpc.Txn, req)
	if refusesOne(err) && len(keys) > 1 {
		// One of them may no longer be readable, which must not affect the others.
		h.check(keys[:len(keys)/2])
		h.check(keys[len(keys)/2:])
		return
	}
	if errors.Is(err, ErrPermissionDenied) {
		h.checkLease(ctx, keys[0])
		return
	}
	if err != nil || len(resp.Responses) != len(keys) {
		return // try again next time; without a connection the leases expire
	}
	for i, k := range keys {
		got := resp.Responses[i].GetResponseRange()
		k.found(got)
		for _, kv := range got.GetKvs() {
			if at := kv.ModRevision; k.rewritten && at != k.token && at != k.bound {
				h.checkBinding(ctx, k, at)
			}
		}
	}
}

// checkBinding checks whether a key that was put again, by its holder or somebody else, is still
// attached to its lease: an answer without values doesn't say that since etcd 3.7.
func (h *heldKeys) checkBinding(ctx context.Context, k *heldKey, at int64) {
	resp, err := do(ctx, h.conn, request{op: "check locks", key: k.key}, h.conn.rpc.Txn, &pb.TxnRequest{
		Compare: []*pb.Compare{k.stands(), txntree.AttachedTo(k.stored, int64(k.lease))},
		Success: []*pb.RequestOp{txntree.Range(&pb.RangeRequest{Key: k.stored, KeysOnly: true})}, // so that it isn't a stale read
	})
	switch {
	case err != nil: // try again next time
	case resp.Succeeded:
		k.bound = at
	default:
		k.lose(ErrLockKeyReplaced)
	}
}

// checkLease checks a key that may no longer be read, as one of its lease's keys. The
// server refuses the keys of a lease as long as any of them is there. From etcd 3.6 on
// the lease can't be renewed either; earlier servers would keep the lock for its holder
// forever.
func (h *heldKeys) checkLease(ctx context.Context, k *heldKey) {
	req := &pb.LeaseTimeToLiveRequest{ID: int64(k.lease), Keys: true}
	resp, err := do(ctx, h.conn, request{op: "check locks", key: k.key}, h.conn.rpc.TimeToLive, req)
	if err != nil || resp.TTL < 0 { // the renewals tell of the lease
		return
	}
	if !slices.ContainsFunc(resp.Keys, func(key []byte) bool { return bytes.Equal(key, k.stored) }) {
		k.lose(ErrLockKeyDeleted)
	}
}

// refusesOne reports whether an error may be about one key of several.
func refusesOne(err error) bool {
	return errors.Is(err, ErrPermissionDenied) || errors.Is(err, ErrTooManyOps) || errors.Is(err, ErrTooLarge)
}

// found evaluates what is stored under the key. A claim is put at the revision that is its
// token, and never again unless it is rewritten.
func (k *heldKey) found(got *pb.RangeResponse) {
	switch kvs := got.GetKvs(); {
	case got == nil:
	case len(kvs) == 0:
		k.lose(ErrLockKeyDeleted)
	case kvs[0].CreateRevision != k.token || !k.rewritten && kvs[0].ModRevision != k.token:
		k.lose(ErrLockKeyReplaced)
	}
}

// stands returns the condition that the key of a claim is still there.
func (k *heldKey) stands() *pb.Compare { return txntree.CreatedAt(k.stored, k.token) }
