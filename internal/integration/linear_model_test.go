package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// A history is checked group by group: keys of different groups are never touched
// by one operation, so that a history is linearizable if that of each group is
// (Herlihy and Wing, 1990), and small histories are checked fast.

// groupSize is the number of keys of a group.
const groupSize = 4

// registers are the keys of a group. Each holds the number that is its value; no
// number is written twice.
type registers [groupSize]int64

// Instead of a number.
const (
	missing   int64 = 0  // the key does not exist
	untouched int64 = -1 // the key does not matter
)

var nothing = registers{untouched, untouched, untouched, untouched}

// step is what an operation does: it writes if it finds what it expects, or else
// does nothing. A read expects what it has found.
type step struct {
	name   string
	expect registers
	write  registers
}

// outcome is what is known of a step after its call.
type outcome struct {
	refused bool
	// unknown: it may have been done at any time since the call, or will be, or
	// never. Nothing else is known then.
	unknown bool
	// applied: it has found what it expects.
	applied bool
	// deleted counts the keys that were deleted; untouched if that isn't known.
	deleted int64
}

// registersModel is what a group of keys has to look like to those who use it.
var registersModel = porcupine.Model{
	Init:              func() any { return registers{} },
	Step:              func(state, in, out any) (bool, any) { return take(state.(registers), in.(step), out.(outcome)) },
	DescribeOperation: func(in, out any) string { return describeStep(in.(step), out.(outcome)) },
	DescribeState:     func(state any) string { return fmt.Sprint(state) },
}

// take reports whether a step with this outcome can be taken, and where it leads.
// One of unknown outcome that was never done is one that is taken after all that
// anybody has seen: its time is open towards the end.
func take(now registers, s step, o outcome) (bool, registers) {
	holds := true
	for i, want := range s.expect {
		holds = holds && (want == untouched || want == now[i])
	}
	if !o.unknown && o.applied != holds {
		return false, now
	}
	if !holds {
		return true, now
	}
	next, deleted := now, int64(0)
	for i, value := range s.write {
		if value == untouched {
			continue
		}
		if value == missing && now[i] != missing {
			deleted++
		}
		next[i] = value
	}
	if !o.unknown && o.deleted != untouched && o.deleted != deleted {
		return false, now
	}
	return true, next
}

func describeStep(s step, o outcome) string {
	var b strings.Builder
	b.WriteString(s.name)
	for i := range groupSize {
		if s.expect[i] != untouched {
			fmt.Fprintf(&b, " %d=%d?", i, s.expect[i])
		}
		if s.write[i] != untouched {
			fmt.Fprintf(&b, " %d:=%d", i, s.write[i])
		}
	}
	switch {
	case o.unknown:
		b.WriteString(" unknown")
	case !o.applied:
		b.WriteString(" no")
	case o.deleted != untouched:
		fmt.Fprintf(&b, " %d deleted", o.deleted)
	}
	return b.String()
}

// only returns registers of which one matters.
func only(i int, value int64) registers {
	r := nothing
	r[i] = value
	return r
}

var (
	acknowledged = outcome{applied: true, deleted: untouched}
	declined     = outcome{deleted: untouched}
	lost         = outcome{unknown: true}
	// refused is the outcome of a write that was not applied and never will be, and
	// of a failed read. It is no part of a history.
	refused = outcome{refused: true}
)

func deletedKeys(n int64) outcome { return outcome{applied: true, deleted: n} }

// at is an operation between two moments.
func at(call, end int64, s step, o outcome) porcupine.Operation {
	if o.unknown {
		end = never
	}
	return porcupine.Operation{Input: s, Call: call, Output: o, Return: end}
}

func putStep(i int, value int64) step { return step{"put", nothing, only(i, value)} }
func getStep(i int, value int64) step { return step{"get", only(i, value), nothing} }
func swapStep(i int, old, value int64) step {
	return step{"swap", only(i, old), only(i, value)}
}

func TestHistoryOfAFaultyStoreIsNotLinearizable(t *testing.T) {
	t.Parallel()
	both := func(a, b int64) registers { return registers{a, b, untouched, untouched} }
	for name, c := range map[string]struct {
		history []porcupine.Operation
		want    porcupine.CheckResult
	}{
		"stale read": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), acknowledged),
			at(3, 4, putStep(0, 2), acknowledged),
			at(5, 6, getStep(0, 1), acknowledged),
		}, porcupine.Illegal},
		"read of one moment of the write": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), acknowledged),
			at(3, 6, putStep(0, 2), acknowledged),
			at(4, 5, getStep(0, 1), acknowledged),
		}, porcupine.Ok},
		"read that goes back": {[]porcupine.Operation{
			at(1, 9, putStep(0, 1), acknowledged),
			at(2, 3, getStep(0, 1), acknowledged),
			at(4, 5, getStep(0, missing), acknowledged),
		}, porcupine.Illegal},
		"lost update": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), acknowledged),
			at(3, 5, swapStep(0, 1, 2), acknowledged),
			at(4, 6, swapStep(0, 1, 3), acknowledged),
		}, porcupine.Illegal},
		"swap that the other one won": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), acknowledged),
			at(3, 5, swapStep(0, 1, 2), declined),
			at(4, 6, swapStep(0, 1, 3), acknowledged),
		}, porcupine.Ok},
		"swap declined without a reason": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), acknowledged),
			at(3, 4, swapStep(0, 1, 2), declined),
		}, porcupine.Illegal},
		"write applied twice": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), acknowledged),
			at(3, 4, putStep(0, 2), acknowledged),
			at(5, 6, getStep(0, 2), acknowledged),
			at(7, 8, getStep(0, 1), acknowledged),
		}, porcupine.Illegal},
		"unknown write applied twice": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), lost),
			at(3, 4, getStep(0, 1), acknowledged),
			at(5, 6, putStep(0, 2), acknowledged),
			at(7, 8, getStep(0, 1), acknowledged),
		}, porcupine.Illegal},
		"unknown write applied late": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), lost),
			at(3, 4, getStep(0, missing), acknowledged),
			at(5, 6, getStep(0, 1), acknowledged),
		}, porcupine.Ok},
		"unknown write never applied": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), lost),
			at(3, 4, getStep(0, missing), acknowledged),
		}, porcupine.Ok},
		"acknowledged write never applied": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), acknowledged),
			at(3, 4, getStep(0, missing), acknowledged),
		}, porcupine.Illegal},
		"half a bulk put": {[]porcupine.Operation{
			at(1, 9, step{"bulk put", nothing, both(1, 2)}, acknowledged),
			at(2, 3, step{"bulk get", both(1, missing), nothing}, acknowledged),
		}, porcupine.Illegal},
		"half a bulk put of unknown outcome": {[]porcupine.Operation{
			at(1, 2, step{"bulk put", nothing, both(1, 2)}, lost),
			at(3, 4, getStep(0, 1), acknowledged),
			at(5, 6, getStep(1, missing), acknowledged),
		}, porcupine.Illegal},
		"write skew": {[]porcupine.Operation{
			at(1, 2, step{"bulk put", nothing, both(1, 2)}, acknowledged),
			at(3, 5, step{"transact", both(1, 2), only(0, 3)}, acknowledged),
			at(4, 6, step{"transact", both(1, 2), only(1, 4)}, acknowledged),
		}, porcupine.Illegal},
		"delete that counts wrong": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), acknowledged),
			at(3, 4, step{"delete", nothing, only(0, missing)}, deletedKeys(0)),
		}, porcupine.Illegal},
		"deletes that count one key twice": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), acknowledged),
			at(3, 5, step{"delete", nothing, only(0, missing)}, deletedKeys(1)),
			at(4, 6, step{"delete", nothing, only(0, missing)}, deletedKeys(1)),
		}, porcupine.Illegal},
		"delete of unknown outcome beside one that counts nothing": {[]porcupine.Operation{
			at(1, 2, putStep(0, 1), acknowledged),
			at(3, 4, step{"delete", nothing, only(0, missing)}, lost),
			at(5, 6, step{"delete", nothing, only(0, missing)}, deletedKeys(0)),
		}, porcupine.Ok},
	} {
		require.Equal(t, c.want, porcupine.CheckOperationsTimeout(registersModel, c.history, time.Minute), name)
	}
}
