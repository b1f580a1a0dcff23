package etcd

import (
	"context"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// lockPlace is what the locks of one name share on a session. Their claims would have the same
// key, so that they take turns here; and since their lease is not theirs to give up, a claim in
// doubt is swept away by its key.
//
// A key that is found there is never taken for a claim: whatever put it, its place in the queue
// is not known, and its deletion may be under way. It is removed, bound to its create revision,
// and the claim is made anew. So a deletion that comes late can't hit a claim that counts.
//
// A goroutine works for it while a claim is in doubt (run); it ends with the client or the
// session.
type lockPlace struct {
	session *Session
	name    string
	key     string
	turn    chan struct{} // of those who have the place

	// The mu of session guards what follows.
	users    int
	sweeping bool
	late     bool // a request for a claim may arrive as long as the session lives
	round    int  // of sweeps since a claim came in doubt
}

// longestNumber is as long as the longest number.
const longestNumber = "ffffffffffffffff\x00"

// number returns what tells claims on the session apart whose keys would be the same.
func (s *Session) number() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.numbered++
	return strconv.FormatUint(s.numbered, 16) + "\x00"
}

// place gives somebody a place on the session, for claims with that key.
func (s *Session) place(c *Client, name, key string) (*lockPlace, error) {
	if err := s.usableBy(c); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.places[key]
	if p == nil {
		p = &lockPlace{session: s, name: name, key: key, turn: make(chan struct{}, 1)}
		s.places[key] = p
	}
	p.users++
	return p, nil
}

// leave gives back the place of one of its users.
func (p *lockPlace) leave() {
	p.session.mu.Lock()
	defer p.session.mu.Unlock()
	p.users--
	p.clear()
}

// clear forgets a place that nobody needs. The mu of session must be held.
func (p *lockPlace) clear() {
	if p.users == 0 && !p.sweeping {
		delete(p.session.places, p.key)
	}
}

// removal deletes a key that was created at a revision.
func removal(c *Client, key string, created int64) *Txn {
	return c.Txn().If(CreateRevision(key).Equal(created)).Then(OpDelete(key))
}

// sweeps are the times to wait before each sweep; the last one is that between all further ones.
var sweeps = []time.Duration{0, 100 * time.Millisecond, time.Second, 4 * time.Second, 10 * time.Second}

// sweep has the key deleted, in the background, unless a lock has it by then. late says that a
// request may put it later.
func (p *lockPlace) sweep(late bool) {
	s := p.session
	s.mu.Lock()
	defer s.mu.Unlock()
	p.late, p.round = p.late || late, 0
	if p.sweeping || s.lease.ctx.Err() != nil {
		return
	}
	p.sweeping = s.client.rpc.Start(p.run) == nil
}

// run sweeps until the key is gone and can't come back, or goes with its lease.
func (p *lockPlace) run() {
	s := p.session
	for over := false; !over; {
		s.mu.Lock()
		wait := sweeps[min(p.round, len(sweeps)-1)]
		p.round++
		s.mu.Unlock()
		alive := rpc.Pause(s.lease.ctx, s.client.rpc.Closing(), wait)
		clean := alive && p.clean()
		s.mu.Lock()
		if over = !alive || clean && !p.late && p.round > 0; over {
			p.sweeping = false
			p.clear()
		}
		s.mu.Unlock()
	}
}

// clean deletes the key if it is there, and reports whether it is certainly gone.
func (p *lockPlace) clean() bool {
	c := p.session.client
	ctx, cancel := context.WithTimeout(inBackground(context.Background()), c.cfg.RequestTimeout)
	defer cancel()
	r := request{op: "withdraw", key: p.name}
	stored, err := c.stored(p.key)
	if err != nil {
		return false
	}
	found, err := do(ctx, c.conn, r, c.rpc.Get, &pb.RangeRequest{Key: stored, KeysOnly: true})
	if err != nil || len(found.Kvs) == 0 {
		return err == nil
	}
	// Only after the read: a claim that was made until then is over if nobody has the turn, and
	// one that is made from now on has another revision.
	if len(p.turn) > 0 {
		return false
	}
	_, err = c.commit(ctx, r, removal(c, p.key, found.Kvs[0].CreateRevision))
	return err == nil
}
