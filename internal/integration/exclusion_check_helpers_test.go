package integration

import (
	"cmp"
	"fmt"
	"slices"
)

// tenure is the time in which a process believed to hold something, as it has told.
type tenure struct {
	Worker int    `json:"worker"`
	Mode   string `json:"mode"`  // what excludes what, see exclusionRules
	Token  int64  `json:"token"` // the create revision of the claim
	// First and Last are when it believed that, in nanoseconds: each was read before the
	// process looked at what should tell it of a loss, so that a process that was stopped in
	// between doesn't count as one that believed.
	First int64 `json:"first"`
	Last  int64 `json:"last"`

	Lost    bool `json:"lost"`    // it was told of a loss
	Written int  `json:"written"` // writes that were answered by success
	Refused int  `json:"refused"` // by ErrLockLost
	Unsure  int  `json:"unsure"`  // that may have been applied
}

// exclusionRule says who may hold at a time.
type exclusionRule struct {
	size   int            // all that may be held at a time
	weight map[string]int // what one of a mode takes
}

var exclusive = exclusionRule{size: 1, weight: map[string]int{"": 1}}

// overlaps returns what believed holdings of tenures break the rule.
func (rule exclusionRule) overlaps(all []tenure) []string {
	type edge struct {
		at    int64
		begin bool
		of    tenure
	}
	var edges []edge
	for _, t := range all {
		if t.First != 0 {
			edges = append(edges, edge{t.First, true, t}, edge{t.Last, false, t})
		}
	}
	// What ends and what begins at one moment counts as an overlap: the end was believed too.
	slices.SortStableFunc(edges, func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.at, b.at), map[bool]int{true: -1, false: 1}[a.begin])
	})
	var found []string
	held, holders := 0, map[tenure]int{}
	for _, e := range edges {
		weight := rule.weight[e.of.Mode]
		if !e.begin {
			held -= weight
			holders[e.of]--
			continue
		}
		if held += weight; held > rule.size {
			others := ""
			for other, n := range holders {
				if n > 0 {
					others += fmt.Sprintf(" worker %d with token %d until %d;", other.Worker, other.Token, other.Last)
				}
			}
			found = append(found, fmt.Sprintf("worker %d with token %d from %d, beside%s", e.of.Worker, e.of.Token, e.at, others))
		}
		holders[e.of]++
	}
	return found
}

// claimLife is the time of a claim's key in revisions; until is 0 while it is there.
type claimLife struct{ from, until int64 }

// exclusionWrite is a write of a critical section.
type exclusionWrite struct {
	revision, token int64
}

// exclusionTruth is what the cluster has seen of claims and writes.
type exclusionTruth struct {
	claims map[int64]claimLife // by token
	writes []exclusionWrite
}

// stale returns the writes that were applied although the claim did not stand.
func (h *exclusionTruth) stale() []string {
	var found []string
	for _, w := range h.writes {
		life, known := h.claims[w.token]
		switch {
		case !known:
			found = append(found, fmt.Sprintf("write at %d by token %d, which never was", w.revision, w.token))
		case w.revision <= life.from || life.until != 0 && w.revision >= life.until:
			found = append(found, fmt.Sprintf("write at %d by token %d, which ended at %d", w.revision, w.token, life.until))
		}
	}
	return found
}
