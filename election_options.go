package etcd

import (
	"fmt"
	"strings"
	"time"
)

// ElectionOption changes an [Election]: [WithCandidate], [WithPriority], [WithLockTTL],
// [WithSession], [WithOwner] and [WithBothKeys].
type ElectionOption interface{ applyElection(*electionOptions) }

// electionOptions are what options set.
type electionOptions struct {
	lease     lockOptions // what elections share with locks
	candidate string
	named     bool
	priority  int
}

// check returns the time to live in the server's unit, or why the options make no sense.
func (o electionOptions) check() (ttlSeconds int64, err error) {
	switch {
	case o.named && o.candidate == "":
		return 0, fmt.Errorf("%w: candidate without a name", ErrInvalidArgument)
	case strings.Contains(o.candidate, "\x00"):
		return 0, fmt.Errorf("%w: name of a candidate with a NUL byte", ErrInvalidArgument)
	}
	return o.lease.check()
}

// WithCandidate names the candidate, so that a leader can hand over to it ([WithSuccessor]), and
// [Election.Queue] tells it. The name is part of a key and not encrypted. It must not be empty or
// contain a NUL byte; those of candidates of one election should differ. Without it a candidate has
// no name.
func WithCandidate(name string) ElectionOption { return candidateOption(name) }

type candidateOption string

func (name candidateOption) applyElection(o *electionOptions) {
	o.candidate, o.named = string(name), true
}

// WithPriority lets a candidate go before all candidates of a lower priority, whenever they came;
// among those of one priority the first one to come goes first. It replaces no leader. Any
// number will do; the default is 0.
func WithPriority(priority int) ElectionOption { return priorityOption(priority) }

type priorityOption int

func (p priorityOption) applyElection(o *electionOptions) { o.priority = int(p) }

func (ttl lockTTLOption) applyElection(o *electionOptions) {
	o.lease.ttl, o.lease.ttlSet = time.Duration(ttl), true
}

func (s lockSessionOption) applyElection(o *electionOptions) { o.lease.session = s.session }

func (text ownerOption) applyElection(o *electionOptions) { o.lease.owner = string(text) }

// ResignOption changes [Election.Resign]: [WithSuccessor].
type ResignOption interface{ applyResign(*resignOptions) }

type resignOptions struct {
	successor string
	named     bool
}

// check returns why the options make no sense.
func (o resignOptions) check() error {
	if o.named && o.successor == "" {
		return fmt.Errorf("%w: successor without a name", ErrInvalidArgument)
	}
	return nil
}

// WithSuccessor hands over to the candidate of that name ([WithCandidate]), whatever its place in
// the queue: nobody else becomes the leader before it, unless it dies or leaves first. Of several
// of that name it is the next in the queue. [WithBothKeys] that goes for the candidates of this
// package alone: those of clientv3 that wait already lead before it.
func WithSuccessor(name string) ResignOption { return successorOption(name) }

type successorOption string

func (name successorOption) applyResign(o *resignOptions) { o.successor, o.named = string(name), true }
