package etcd

import "go.etcd.io/etcd/api/v3/mvccpb"

// wholeRevisions returns how many of the first events of batch belong to complete
// revisions. The last revision is incomplete while fragments of the response are to come.
// Earlier ones must not wait: a watch that catches up gets up to a thousand revisions in
// one response.
func wholeRevisions(batch []*mvccpb.Event, more bool) int {
	n := len(batch)
	for more && n > 0 && batch[n-1].Kv.ModRevision == batch[len(batch)-1].Kv.ModRevision {
		n--
	}
	return n
}

// portionBytes is about how much a watch decodes and delivers at once. A revision
// is never divided.
const portionBytes = 1 << 20

// portion returns how many of the first events to deliver together.
func portion(events []*mvccpb.Event) int {
	bytes := 0
	for i, ev := range events {
		if bytes >= portionBytes && ev.Kv.ModRevision != events[i-1].Kv.ModRevision {
			return i
		}
		bytes += eventSize(ev)
	}
	return len(events)
}
