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
	number  uint64        // 0 for none
	turn    chan struct{} // of those who have the place

	// The mu of session guards what follows.
	users    int
	sweeping bool
	late     bool // a request for a claim may arrive as long as the session lives
	round    int  // of sweeps since a claim came in doubt
}

// longestNumber is as long as the longest number.
const longestNumber = "ffffffffffffffff\x00"

// number returns a number that nobody on the session has, for claims whose keys would be the same
// otherwise. Numbers are used again, as the server reads over each key that was ever in a
// queue until it compacts its history: with a new one for each claim, queues get slower by each.
func (s *Session) number() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.free) - 1; last >= 0 {
		n := s.free[last]
		s.free = s.free[:last]
		return n
	}
	s.numbered++
	return s.numbered
}

// numbered returns what a number adds to the kind of a claim.
func numbered(number uint64) string { return strconv.FormatUint(number, 16) + "\x00" }

// place gives somebody a place on the session, for claims with that key, which the number is part
// of.
func (s *Session) place(c *Client, name, key string, number uint64) (*lockPlace, error) {
	if err := s.usableBy(c); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.places[key]
	if p == nil {
		p = &lockPlace{session: s, name: name, key: key, number: number, turn: make(chan struct{}, 1)}
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
	if p.users == 0 && p.number > 0 {
		// Also while a claim is in doubt: who comes next has the same place then, and no more
		// places are swept than were ever had at once.
		p.session.free = append(p.session.free, p.number)
	}
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
