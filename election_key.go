package etcd

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// The keys of an election lie under its name, apart from those of a lock of that name, and
// each is attached to a lease:
//
//   - the leader's, which is one key whoever leads: its create revision is the token, its value
//     what the leader campaigned with;
//   - one for each candidate, with its priority, so that a read of the keys alone gives the order;
//     its value says whose it is, as that of a lock's claim does.
//     The leader's stays for as long as it leads: who comes next watches it, and nobody else is
//     woken when the leader goes. The put that makes a candidate the leader touches it, so that
//     its mod revision is then the token;
//   - one for the successor whom a leader has named, attached to the successor's lease, so that it
//     goes with it.
//
// Candidates draw a number for their keys, so that those on one session differ, and a request
// that comes late can't hit another campaign.
const (
	electionKeys     = "\x00lead\x00"
	leaderEnd        = electionKeys + "leader"
	candidatesPrefix = electionKeys + "candidate\x00"
	successorsPrefix = electionKeys + "next\x00"
)

// isLeaderName reports whether a key is named like that of a leader.
func isLeaderName(key []byte) bool {
	name, found := bytes.CutSuffix(key, []byte(leaderEnd))
	return found && len(name) > 0
}

// electionRanges are where the keys of an election lie, as stored.
type electionRanges struct {
	all        keys.Range
	leader     []byte
	candidates keys.Range
	successors keys.Range
}

func (n namespace) electionRanges(name string) (r electionRanges, err error) {
	if r.leader, err = n.stored(name + leaderEnd); err != nil {
		return r, err
	}
	if r.all, err = n.prefixRange(name + electionKeys); err != nil {
		return r, err
	}
	if r.candidates, err = n.prefixRange(name + candidatesPrefix); err != nil {
		return r, err
	}
	r.successors, err = n.prefixRange(name + successorsPrefix)
	return r, err
}

// candidateKey returns the key of a candidate, and that of a successor to match.
func candidateKey(name, id string, priority int, number int64, lease LeaseID) (candidate, successor string) {
	own := fmt.Sprintf("%016x\x00%s", number, lease)
	// Ordered by priority, the highest first.
	place := uint64(math.MaxInt64) - uint64(priority)
	return fmt.Sprintf("%s%s%016x\x00%s\x00%s", name, candidatesPrefix, place, id, own), name + successorsPrefix + own
}

// candidate is what the key of one says.
type candidate struct {
	kv        *mvccpb.KeyValue
	stored    []byte
	id        string
	place     uint64 // by its priority: lower goes first
	successor string // what the key of a successor ends with, should it be named
	lease     LeaseID
	created   int64
	touched   int64
}

// candidateOf reads a candidate's key; it returns false for a key that is none.
func (r electionRanges) candidateOf(kv *mvccpb.KeyValue) (candidate, bool) {
	lease := leaseOfName(kv.Key)
	rest, under := bytes.CutPrefix(kv.Key, r.candidates.Start)
	parts := strings.Split(string(rest), "\x00")
	if !under || lease == 0 || len(parts) != 4 {
		return candidate{}, false
	}
	place, err := strconv.ParseUint(parts[0], 16, 64)
	return candidate{
		kv: kv, stored: kv.Key, id: parts[1], place: place, successor: parts[2] + "\x00" + parts[3],
		lease: LeaseID(lease), created: kv.CreateRevision, touched: kv.ModRevision,
	}, err == nil
}

// successorKey returns the key by which a leader names a candidate, as stored.
func (r electionRanges) successorKey(c candidate) string {
	return string(r.successors.Start) + c.successor
}

// inOrder returns the candidates among kvs, in the order in which they lead.
func (r electionRanges) inOrder(kvs []*mvccpb.KeyValue) []candidate {
	out := make([]candidate, 0, len(kvs))
	for _, kv := range kvs {
		if c, ok := r.candidateOf(kv); ok {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.created, b.created))
	})
	return out
}
