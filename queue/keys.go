package queue

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/blueprint-go/etcd"
)

// layout is where the keys of a queue lie: under its name and a byte 1, which no name holds, so
// that no name contains another's keys, and no lock of the same name sees them.
//
// The value of a job stays under one key from the push to the acknowledgement, so that it is
// sealed once. What becomes of the job is said by keys without a value: all that is needed to
// decide lies in their names, which every consumer can read, whatever encryption keys it has.
//
// Until a compaction the server steps over deleted keys in every range that held them. So where
// jobs wait, keys are in the order of time: whoever knows that nothing is left before a time
// reads from there (shelf). And jobs that run lie under their consumer: they are read once, if
// it is lost.
type layout struct{ root string }

// separator ends the name of a queue in its keys.
const separator = "\x01"

// maxName bounds the name of a queue, so that its keys have room for all that follows. The doc of
// Open names it.
const maxName = 4 << 10

// place is what a job is doing.
type place string

const (
	ready   place = "wait/ready/"   // waits for a consumer: a lane for each priority
	delayed place = "wait/delayed/" // waits for a time, and then for a consumer
	running place = "running/"      // was claimed by a consumer: one prefix for each
	dead    place = "dead/"         // needs somebody to look at it
)

func (l layout) under(p place) string { return l.root + string(p) }

func (l layout) job(id string) string { return l.root + "job/" + id }

// jobs is the prefix of all values.
func (l layout) jobs() string { return l.root + "job/" }

// news is the prefix of what a waiting consumer watches: the jobs that wait, and which consumers
// live.
func (l layout) news() string { return l.root + "wait/" }

// consumers is the prefix of the consumers that may have jobs, each by its lease.
func (l layout) consumers() string { return l.root + "consumer/" }

func (l layout) consumerKey(id etcd.LeaseID) string { return l.consumers() + id.String() }

// living is the prefix of the consumers that live: each has a key there, on its lease.
func (l layout) living() string { return l.root + "wait/alive/" }

func (l layout) alive(id etcd.LeaseID) string { return l.living() + id.String() }

// lane is the prefix of the ready jobs of a priority.
func (l layout) lane(priority int) string { return fmt.Sprintf("%s%d/", l.under(ready), priority) }

// entry is what the name of a state's key says of a job.
type entry struct {
	id       string // 16 digits of the time of its push, 8 of chance
	priority int
	attempts int
	due      int64        // when a delayed job is due, in Unix nanoseconds; otherwise 0
	consumer etcd.LeaseID // of a running job; otherwise 0
}

const (
	idDigits   = 24
	timeDigits = 16
)

// pushed returns the time of the push, by the clock of who pushed.
func (e entry) pushed() time.Time {
	t, _ := strconv.ParseInt(e.id[:timeDigits], 16, 64) // checked by parse
	return time.Unix(0, t)
}

// key returns the key of an entry at a place.
func (l layout) key(p place, e entry) string {
	switch p {
	case ready:
		return fmt.Sprintf("%s%s%08x", l.lane(e.priority), e.id, e.attempts)
	case delayed:
		return fmt.Sprintf("%s%016x%d%s%08x", l.under(p), e.due, e.priority, e.id, e.attempts)
	case running:
		return fmt.Sprintf("%s%s/%d%s%08x", l.under(p), e.consumer, e.priority, e.id, e.attempts)
	default:
		return fmt.Sprintf("%s%s%d%08x", l.under(p), e.id, e.priority, e.attempts)
	}
}

// now is the clock that jobs wait by.
func now() time.Time { return time.Now() }

// timeKey returns the key before which a prefix has what is of an earlier time.
func timeKey(prefix string, t time.Time) string { return fmt.Sprintf("%s%016x", prefix, t.UnixNano()) }

// parse returns the entry and place of a key; false for one that no queue has made.
func (l layout) parse(key string) (e entry, p place, ok bool) {
	for _, p = range []place{ready, delayed, running, dead} {
		if text, found := strings.CutPrefix(key, l.under(p)); found {
			e, ok = parseEntry(p, text)
			return e, p, ok
		}
	}
	return entry{}, "", false
}

// parseEntry is the reverse of key, for what follows the prefix of a place.
func parseEntry(p place, text string) (e entry, ok bool) {
	good := true
	next := func(digits int) int64 {
		if len(text) < digits || !isHex(text[:digits]) {
			good, text = false, ""
			return 0
		}
		n, err := strconv.ParseInt(text[:digits], 16, 64)
		good, text = good && err == nil, text[digits:]
		return n
	}
	id := func() string {
		id := text[:min(idDigits, len(text))]
		next(timeDigits)
		next(idDigits - timeDigits)
		return id
	}
	slash := func() {
		good = good && strings.HasPrefix(text, "/")
		text = strings.TrimPrefix(text, "/")
	}
	switch p {
	case ready:
		e.priority = int(next(1))
		slash()
		e.id = id()
	case delayed:
		e.due = next(timeDigits)
		e.priority = int(next(1))
		e.id = id()
	case running:
		e.consumer = etcd.LeaseID(next(timeDigits))
		slash()
		e.priority = int(next(1))
		e.id = id()
	default:
		e.id = id()
		e.priority = int(next(1))
	}
	e.attempts = int(next(8))
	return e, good && text == "" && e.priority <= MaxPriority && e.attempts <= math.MaxInt32
}

// isHex reports whether a text has only digits as fmt writes them.
func isHex(text string) bool {
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
