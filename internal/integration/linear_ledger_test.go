package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// fate is what may have become of a value.
type fate int

const (
	neverStored fate = iota // its write was refused, declined, or of a run that is void
	maybeStored
	wasStored
)

// bounds are those of how often something may have happened.
type bounds struct{ least, most int64 }

// tally counts the calls of one operation by what became of them.
type tally struct{ acknowledged, unknown, refused int64 }

// ledger holds what workers were told of their writes, to be compared with what
// the store has done.
type ledger struct {
	mu       sync.Mutex
	values   map[int64]fate
	seen     map[int64]bool // values that were read
	deletes  map[int]bounds // by the number of the group
	tallies  map[string]tally
	outcomes map[etcd.Outcome]int64 // of lost writes that were settled
}

func newLedger() *ledger {
	return &ledger{
		values: map[int64]fate{}, seen: map[int64]bool{}, deletes: map[int]bounds{},
		tallies: map[string]tally{}, outcomes: map[etcd.Outcome]int64{},
	}
}

// enter notes the outcome of a step in a group.
func (l *ledger) enter(group int, s step, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, f := l.tallies[s.name], neverStored
	switch {
	case o.refused:
		n.refused++
	case o.unknown:
		n.unknown++
		f = maybeStored
	case o.applied:
		n.acknowledged++
		f = wasStored
	default:
		n.acknowledged++
	}
	l.tallies[s.name] = n
	l.note(s, f)
	for _, value := range s.expect {
		if value > missing && f == wasStored {
			l.seen[value] = true
		}
	}
	if f != neverStored {
		l.noteDeletes(group, s, o)
	}
}

// noteDeletes counts the keys that a step has deleted, or may have.
func (l *ledger) noteDeletes(group int, s step, o outcome) {
	deletes := l.deletes[group]
	if o.applied && o.deleted != untouched {
		deletes.least += o.deleted
		deletes.most += o.deleted
	} else {
		for _, value := range s.write {
			if value == missing {
				deletes.most++
			}
		}
	}
	l.deletes[group] = deletes
}

// settled notes what was found out about a lost write.
func (l *ledger) settled(o etcd.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[o]++
}

// forbid notes a step of a run that is void.
func (l *ledger) forbid(s step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(s, neverStored)
}

func (l *ledger) note(s step, f fate) {
	for _, value := range s.write {
		if value > missing {
			l.values[value] = f
		}
	}
}

// storeLog is what the store has done, by its own account.
type storeLog struct {
	stored  map[int64]int64 // how often each value
	deleted map[int]int64   // how many keys of each group
}

// contradictions returns where the store has done something else than the workers
// were told: a value that was acknowledged is stored once, one of unknown outcome
// once or never, any other never; and as many keys are deleted as were counted.
func (l *ledger) contradictions(log storeLog) []string {
	var all []string
	for value, f := range l.values {
		n := log.stored[value]
		switch {
		case f == wasStored && n != 1, f == maybeStored && n > 1, f == neverStored && n > 0:
			all = append(all, fmt.Sprintf("value %d, which was %v, is stored %d times", value, f, n))
		}
	}
	for value := range log.stored {
		if _, ok := l.values[value]; !ok {
			all = append(all, fmt.Sprintf("value %d was stored by nobody", value))
		}
	}
	for value := range l.seen {
		if log.stored[value] != 1 {
			all = append(all, fmt.Sprintf("value %d was read and is stored %d times", value, log.stored[value]))
		}
	}
	for group, b := range l.deletes {
		if n := log.deleted[group]; n < b.least || n > b.most {
			all = append(all, fmt.Sprintf("%d keys of group %d are deleted, not %d to %d", n, group, b.least, b.most))
		}
	}
	for group, n := range log.deleted {
		if _, ok := l.deletes[group]; !ok {
			all = append(all, fmt.Sprintf("%d keys of group %d are deleted, by nobody", n, group))
		}
	}
	slices.Sort(all)
	return all
}

func (f fate) String() string {
	return [...]string{"never stored", "maybe stored", "acknowledged"}[f]
}

// table shows how the calls ended.
func (l *ledger) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "operation\tacknowledged\tunknown\tnot applied\t")
	for _, name := range slices.Sorted(maps.Keys(l.tallies)) {
		n := l.tallies[name]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t\n", name, n.acknowledged, n.unknown, n.refused)
	}
	n := l.sum()
	fmt.Fprintf(w, "all\t%d\t%d\t%d\t\n", n.acknowledged, n.unknown, n.refused)
	_ = w.Flush() // a Builder never fails
	fmt.Fprintf(&b, "of lost writes %d were found applied, %d not applied, %d stayed unknown",
		l.outcomes[etcd.OutcomeApplied], l.outcomes[etcd.OutcomeNotApplied], l.outcomes[etcd.OutcomeUnknown])
	return b.String()
}

func (l *ledger) sum() tally {
	var sum tally
	for _, n := range l.tallies {
		sum.acknowledged += n.acknowledged
		sum.unknown += n.unknown
		sum.refused += n.refused
	}
	return sum
}

// readStoreLog reads all events under a prefix from the beginning, by the client
// and by clientv3. Both must tell of the same ones.
func readStoreLog(t *testing.T, c *etcd.Client, prefix string) storeLog {
	t.Helper()
	ctx := within(t, 5*time.Minute)
	end := prefix + "end"
	require.NoError(t, c.Put(ctx, end, nil))
	log := storeLog{stored: map[int64]int64{}, deleted: map[int]int64{}}
	raw := rawEvents(ctx, t, c.Raw(), prefix, end)
	for response := range c.WatchPrefix(ctx, prefix, etcd.WithRevision(1)) {
		require.NoError(t, response.Err())
		for _, e := range response.Events {
			require.NoError(t, e.Err)
			event := rawEvent{e.Kv.Key, e.Kv.ModRevision, e.Type == etcd.EventDelete}
			require.Equal(t, <-raw, event)
			if e.Kv.Key == end {
				return log
			}
			log.add(t, e, prefix)
		}
	}
	require.Fail(t, "the watch has ended")
	return log
}

func (l storeLog) add(t *testing.T, e *etcd.Event, prefix string) {
	t.Helper()
	if e.Type == etcd.EventPut {
		value, err := strconv.ParseInt(string(e.Kv.Value), 10, 64)
		require.NoError(t, err)
		l.stored[value]++
		return
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(e.Kv.Key, prefix), "/")
	group, err := strconv.Atoi(number)
	require.NoError(t, err)
	l.deleted[group]++
}

// rawEvent is what can be told of an event without its key.
type rawEvent struct {
	key      string
	revision int64
	deleted  bool
}

// rawEvents delivers the events as clientv3 has them, the last one that of end.
func rawEvents(ctx context.Context, t *testing.T, c *clientv3.Client, prefix, end string) <-chan rawEvent {
	ctx, cancel := context.WithCancel(ctx)
	out, ended := make(chan rawEvent), make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	go func() {
		defer close(ended)
		defer close(out)
		for response := range c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
			assert.NoError(t, response.Err())
			for _, e := range response.Events {
				event := rawEvent{string(e.Kv.Key), e.Kv.ModRevision, e.Type == clientv3.EventTypeDelete}
				select {
				case out <- event:
				case <-ctx.Done():
					return
				}
				if event.key == end {
					return
				}
			}
		}
	}()
	return out
}

func TestLedgerNoticesWhatTheStoreDidOtherwise(t *testing.T) {
	t.Parallel()
	l := newLedger()
	l.enter(1, putStep(0, 1), acknowledged)
	l.enter(1, putStep(0, 2), lost)
	l.enter(1, putStep(0, 3), refused)
	l.enter(1, swapStep(0, 9, 4), declined)
	l.enter(1, swapStep(0, 1, 5), acknowledged)
	l.enter(1, getStep(0, 5), acknowledged)
	l.forbid(putStep(0, 6))
	l.enter(1, step{"delete", nothing, only(0, missing)}, deletedKeys(1))
	l.enter(1, step{"delete", nothing, only(0, missing)}, lost)
	l.enter(1, step{"delete", nothing, only(0, missing)}, deletedKeys(0))
	log := func(deleted int64, stored ...int64) storeLog {
		log := storeLog{stored: map[int64]int64{}, deleted: map[int]int64{1: deleted}}
		for _, value := range stored {
			log.stored[value]++
		}
		return log
	}
	for name, legal := range map[string]storeLog{
		"unknown not done": log(1, 1, 5),
		"unknown done":     log(2, 1, 2, 5),
	} {
		require.Empty(t, l.contradictions(legal), name)
	}
	for name, illegal := range map[string]storeLog{
		"acknowledged twice":   log(1, 1, 1, 5),
		"acknowledged lost":    log(1, 5),
		"unknown twice":        log(1, 1, 2, 2, 5),
		"refused":              log(1, 1, 3, 5),
		"declined":             log(1, 1, 4, 5),
		"void":                 log(1, 1, 5, 6),
		"written by nobody":    log(1, 1, 5, 99),
		"acknowledged delete":  log(0, 1, 5),
		"one delete too many":  log(3, 1, 5),
		"delete of a stranger": {stored: log(1, 1, 5).stored, deleted: map[int]int64{1: 1, 2: 1}},
	} {
		require.NotEmpty(t, l.contradictions(illegal), name)
	}
	require.Equal(t, tally{acknowledged: 6, unknown: 2, refused: 1}, l.sum())
}
