// Package mirror keeps the keys under a prefix in memory, up to date: for configuration,
// registrations, and whatever else is read far more often than it is written.
//
//	m, err := mirror.Open(ctx, client, "/services/")
//	if err != nil {
//		return err
//	}
//	defer m.Close()
//	kv, ok := m.Get("/services/web")
//
// Reads take some tens of nanoseconds, no lock and no request. They may be a moment behind
// the servers. Where that matters, [Mirror.WaitFor] waits for a write whose revision is
// known, and [Mirror.Fresh] for everything that was acknowledged before the call.
//
// What the library promises:
//
//   - A reader sees states of whole revisions, one after the other, never a mixture and
//     never an older one after a newer one. (A restore of the cluster to an older
//     revision is the exception, and [Mirror.WaitFor] and [Mirror.Fresh] tell of it.)
//   - [Mirror.Changes] returns each change exactly once, in order, with the value before
//     and after it. What a compaction or a restore has hidden, and what a slow reader
//     could not take, comes as the difference, deletions included, and says so. (A restore
//     can't be told if, when the mirror reaches the cluster again, as many changes have been
//     made as were lost: see [etcd.Client.Watch].)
//   - A value that can't be decoded hides no other: reads pass over it, [Mirror.Bad] lists
//     it and a [Change] tells of it.
//   - Nothing but [Mirror.Close] and the end of the client ends a mirror. While etcd is away,
//     or refuses, it serves what it has, and [Mirror.Status] says since when and why.
//
// Claims of locks (see [etcd.Lock]) are no key-values and never show. For values of one Go
// type, decoded once when they arrive, there is [OpenTyped].
//
// A mirror holds every key and value of its prefix in memory: about 170 bytes for each
// besides the key and the value.
package mirror
