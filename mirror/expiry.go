package mirror

import (
	"iter"

	"github.com/blueprint-go/etcd"
)

// withExpiry returns records with the note which keys went with their lease. It asks once
// a revision for a lease.
func withExpiry(records iter.Seq[record], isGone func(etcd.LeaseID) bool) iter.Seq[record] {
	return func(yield func(record) bool) {
		gone := map[etcd.LeaseID]bool{}
		for rec := range records {
			if rec.new == nil && rec.old.kv.Lease != 0 {
				lease := rec.old.kv.Lease
				known, asked := gone[lease]
				if !asked {
					known = isGone(lease)
					gone[lease] = known
				}
				rec.expired = known
			}
			if !yield(rec) {
				return
			}
			if !rec.more {
				clear(gone)
			}
		}
	}
}
