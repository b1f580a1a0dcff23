// Package etcd is a client of etcd for services that keep configuration,
// registrations, locks or secrets there. The common work takes few lines, a call that
// fails says what may have happened, and values are encrypted on their way if you give
// it a key. It stands on the official client, go.etcd.io/etcd/client/v3.
//
// # What should I use?
//
// Make one [Client] per process with [NewClient], and end it with [Client.Close]. Its
// [Config] comes from [DefaultConfig] and its setters, or from [ConfigFromEnv]. Then use
//
//   - for one key, [Client.Put], [Client.Get] and [Client.Delete];
//   - to create a key unless somebody else has, [Client.PutIfNotExists];
//   - to change a value that others change too, [Client.Update];
//   - for all keys under a prefix, [Client.Range], or [Client.Scan] if they are too many
//     to hold at once;
//   - for several keys that belong together, [Client.BulkPut];
//   - to change several keys depending on what you read, [Client.Transact];
//   - to follow changes, [Client.WatchPrefix], from the revision after that of a Range;
//   - to read a prefix far more often than it changes, package mirror, which keeps it in
//     memory;
//   - for a configuration in a struct that follows etcd, package live;
//   - for jobs that one of many processes does, package queue, and for processes that wait
//     for one another, package barrier;
//   - for services that register and find one another, package discovery;
//   - for another key that goes away with its process, [Client.Grant],
//     [Client.PutWithLease] and [Client.KeepAlive];
//   - for work that one process at a time may do, [Client.WithLock]; for what many may read
//     and one may change, [Client.NewRWLock]; for work that so many may do at once,
//     [Client.NewSemaphore]; for a leader that goes on leading and whom others can follow,
//     [Client.Lead];
//   - for values of a Go type, [Typed];
//   - for secrets, [Config.WithEncryption]. Nothing else changes.
//
// # What else is there?
//
// [Client.GetKV] returns a key's revisions and lease with its value.
// [Client.CompareAndSwap] and [Client.CompareAndSwapRevision] are Update by hand.
// [Client.PutIfChanged] leaves an equal value alone. [Client.MoveKey] renames a key,
// [Client.CopyKey] copies one, and [Client.PutWithTTL] stores one that goes away.
//
// [Client.Events] is a watch as a loop over single changes, [Client.WatchRange] one of any
// range of keys, and [WithResync] one that goes on beyond a compaction.
//
// [InChunks] takes a bulk call past the size of one request, [Client.BulkLoad] stores a
// sequence of any length, and [Client.Export] and [Client.Import] use files.
// [Client.Txn] decides by conditions on the server, and [OpTxn] nests it.
// [Client.NewLock] makes a lock that outlives a function. A [Keyring] rotates keys of
// encryption, and a [StoredKeyring] keeps them in etcd, sealed by a key from elsewhere.
//
// A [Hook] observes requests, for metrics and traces. [Client.Raw] gives you the
// official client, which keeps none of the promises below. The module etcdtest runs a
// real server for your tests.
//
// # Promises
//
// A write is executed at most once per call. It is sent again only when it certainly
// was not applied. When a call fails, [MaybeApplied] reports whether the write may have
// taken effect; if it reports false, no key was changed. [Client.Settle] looks for a
// write whose answer was lost, and [WithGuard] makes a put safe to send again.
//
// A proxy that repeats requests (HAProxy with "retry-on all-retryable-errors", nginx with
// "grpc_next_upstream non_idempotent") breaks this: don't use such settings. With
// encryption, writes that are bound to what they read still take effect once: Update,
// Transact, MoveKey, comparisons with a put, puts WithGuard. Without it, and for
// deletions, Update and Transact may run their function on their own result, and a
// comparison may report false although it was applied.
//
// A call that makes one request for many keys is atomic, in one revision: a bulk call,
// [Client.DeletePrefix], MoveKey, [Txn.Commit]. InChunks, BulkLoad and Import are not,
// and report how far they got. Update and the comparisons never lose a concurrent change;
// Transact is serializable.
//
// Reads are linearizable unless you ask for [WithSerializable]. A list or a scan shows
// one revision, however many requests it takes. A watch delivers every change once and
// in order, across lost connections and leaders, or ends with [WatchResponse.Err].
//
// A [Lock] excludes others while [Lock.Context] lives, which ends before the server gives
// the lock to another, provided the clocks of both run equally fast. A paused process
// can't notice that: its writes to etcd are bound to the lock if they are made with a context
// of [Lock.Guard], which [Client.WithLock] passes; give other stores [Lock.Token]. The same goes
// for the leader of an [Election].
//
// A request ends with its context, or after [Config.RequestTimeout] if the context has no
// deadline. Whatever can be known to be wrong is refused before anything is sent. Errors
// match the sentinels of this package by [errors.Is], and most are an [*Error]. A failed
// connection has an [*EndpointError] with the true cause for each endpoint. No error or
// log text shows a secret, a value or a stored byte.
//
// Without encryption and compression (zstd), values are stored as they are. Encrypted
// values are in version 1 of a documented format, by default XAES-256-GCM under a key
// derived by HKDF-SHA-256. Each is bound to its key in etcd: a value that was changed,
// cut or moved is an error and never wrong data. A client with a key refuses plaintext,
// except under prefixes that you name. Every later release reads version 1. Encryption
// doesn't hide the names of keys, the lengths of values or the times of changes, and
// doesn't stop somebody who can write to etcd from putting back an older value of the
// same key.
package etcd
