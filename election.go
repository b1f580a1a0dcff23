package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// Election chooses one leader at a time among processes, and tells everybody who it is. Make one
// with [Client.NewElection], be elected by [Election.Campaign], and end it with [Election.Close];
// [Client.Lead] does all of it. [Election.Leader] and [Election.Observe] are for anybody.
//
// There is a leader exactly while there is the key of a leader, which goes with the leader's
// lease. As with a [Lock], leadership that can no longer be relied upon ends [Election.Context]
// before anybody else can have it, and work for it belongs behind [Election.Guard].
//
// Candidates lead in the order in which they came, those of a higher priority first
// ([WithPriority]). When a leader goes, one candidate is woken, however many there are.
//
// An Election is safe for concurrent use. It is one candidate: it campaigns once at a time.
//
// Clientv3's concurrency.Election and "etcdctl elect" have other keys, and see no leader of this
// package: all processes of an election must use either, unless those of this package have the
// option [WithBothKeys].
//
// The keys of an election lie under its name, and calls that read pass over them as over the
// claims of locks (see [Lock]); [Client.Reencrypt] and [Client.EncryptionStatus] alone see the
// leader's, for its value. Give elections a prefix of their own, apart from data that is
// deleted or restored by prefix.
//
// Every key of an election has a lease. One without, put by hand or copied by another program, is
// foreign: where the leader's key or the key of a named successor would be, it would be in the way
// for good, so that campaigns fail with [ErrForeignKey] until somebody deletes it, and nobody is
// told that it leads; among the candidates it is passed over. A successor's key with a lease that
// names no candidate is in nobody's way either.
type Election struct {
	lifespan
	name      string
	ranges    electionRanges
	candidate string
	priority  int
	owner     string // what records say, see WithOwner
	ttl       int64
	shared    *session         // of a Session; nil if each campaign has a lease of its own
	beside    *likeConcurrency // whose queue a leader heads too, see WithBothKeys; nil for none

	mu          sync.Mutex // guards what follows; never held over a request
	closed      bool
	campaigning bool
	led         *leadership // nil if there is none that needs Resign
}

// leadership is what a campaign has won. The claim is to the leader's key.
type leadership struct {
	claim
	seat *candidacy
	// resigning says that it was given up, but that its key is not known to be gone.
	resigning bool
}

// NewElection returns the election of that name. It sends nothing: a lease is granted for a
// campaign. Elections of different names have nothing to do with each other, and neither have an
// election and a lock of one name, but for those [WithBothKeys]. A name must not be empty or contain
// a NUL byte.
func (c *Client) NewElection(name string, opts ...ElectionOption) (*Election, error) {
	e, err := c.newElection(name, opts)
	if err != nil {
		return nil, fail("new election", name, err)
	}
	return e, nil
}

func (c *Client) newElection(name string, opts []ElectionOption) (*Election, error) {
	if err := c.admit(context.Background()); err != nil {
		return nil, err
	}
	switch {
	case name == "":
		return nil, ErrEmptyKey
	case strings.Contains(name, "\x00"):
		return nil, fmt.Errorf("%w: name of an election with a NUL byte", ErrInvalidArgument)
	}
	o := electionOptions{lease: lockOptions{ttl: DefaultLockTTL}}
	if err := optionsOf(opts, &o, ElectionOption.applyElection); err != nil {
		return nil, err
	}
	ttl, err := o.check()
	if err != nil {
		return nil, err
	}
	e := &Election{lifespan: newLifespan(c, errElectionClosed), name: name, ttl: ttl}
	e.candidate, e.priority, e.owner = o.candidate, o.priority, o.lease.owner
	if s := o.lease.session; s != nil {
		if err := s.usableBy(c); err != nil {
			return nil, err
		}
		e.shared = s.lease
	}
	if e.ranges, err = c.electionRanges(name); err != nil {
		return nil, err
	}
	if err := e.layOut(o.lease); err != nil {
		return nil, err
	}
	longest, _ := candidateKey(name, o.candidate, 0, 0, 0)
	_, err = c.stored(longest)
	return e, err
}

// Name returns the name of the election.
func (e *Election) Name() string { return e.name }

// Campaign stands for election with a value, such as an address, and returns when elected. It
// waits as long as ctx allows; a ctx without a deadline waits forever. Without another leader it
// takes two round trips, and one for a lease, which is kept for ten seconds for the next
// campaign of the client. [WithBothKeys] it takes a round trip more, and fails with [ErrForeignKey]
// if a key that is no claim is in the way.
//
// The value is what [Election.Leader] and [Election.Observe] give everybody, encrypted as the
// configuration says for keys under the name. It may be replaced by [Election.Proclaim].
//
// When ctx ends, Campaign returns within a tenth of a second and leaves nothing behind; if the
// server can't be reached, the candidate ends with its lease at the latest. The error matches
// [ErrLocked] if another led. Where a key without a lease would be in the way for good (see
// [Election]), Campaign fails with [ErrForeignKey], which names the key, at once or when it looks
// again, about every ten seconds. If the lease ends during the wait, or somebody deletes the
// candidate's key, the error matches [ErrLockLost]: a candidate without a lease is never elected.
// While this Election campaigns, Campaign fails with [ErrCampaigning]; while it leads, or led and
// has not resigned since, with [ErrLeading], and with [ErrLockLost] if the leadership was lost.
func (e *Election) Campaign(ctx context.Context, value []byte) error {
	const op = "campaign"
	if err := e.enter(ctx); err != nil {
		return fail(op, e.name, err)
	}
	defer e.leave()
	c, err := e.newCandidacy(ctx, op, value)
	if err != nil {
		return err
	}
	settled := false
	defer func() { // also when a hook panics
		if !settled {
			c.giveUp()
		}
	}()
	token, err := c.win(ctx)
	if err != nil {
		settled = c.withdraw()
		return err
	}
	err = e.noteElected(c, token, op)
	settled = err == nil
	return err
}

// enter begins a campaign, unless there is a reason against it.
func (e *Election) enter(ctx context.Context) error {
	if err := e.usable(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.campaigning:
		return ErrCampaigning
	case e.led == nil:
		e.campaigning = true
		return nil
	case e.led.resigning:
		return ErrLeading
	}
	if lost := e.led.lost(); lost != nil {
		return lost
	}
	return ErrLeading
}

func (e *Election) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.campaigning = false
}

// noteElected records that a campaign was won, unless the election was closed or the lease lost
// meanwhile.
func (e *Election) noteElected(c *candidacy, token int64, op string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return fail(op, e.name, e.closedReason())
	case !c.session.alive():
		return answered(op, e.name, lockLost(c.session))
	}
	l := &leadership{seat: c, claim: claim{session: c.session}}
	l.key, l.stored, l.token = e.name+leaderEnd, e.ranges.leader, token
	l.lease, l.ttl, l.lose, l.rewritten = c.session.id, c.session.ttl, l.fail, true
	l.twin = l.keyBeside()
	l.begin(e.client.held)
	context.AfterFunc(l.ctx, l.noteEnd)
	e.led = l
	e.log(slog.LevelInfo, "etcd: elected", slog.Int64("token", token))
	return nil
}

// noteEnd gives up what is left of a leadership that was lost.
func (l *leadership) noteEnd() {
	// Its candidate would stay in the way of the others, but for one whose lease ends.
	if errors.Is(context.Cause(l.ctx), ErrLockLost) && l.session.alive() {
		l.seat.giveUp()
	}
}

func (e *Election) log(level slog.Level, text string, attrs ...slog.Attr) {
	e.client.cfg.Logger.LogAttrs(context.Background(), level, text, append([]slog.Attr{slog.String("election", e.name)}, attrs...)...)
}
