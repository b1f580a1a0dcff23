// Package etcd is for services that keep configuration, registrations and
// coordination in etcd: few lines for the common work, right under faults, and
// values encrypted on their way if you want. It stands on the official client,
// go.etcd.io/etcd/client/v3.
//
// # What should I use?
//
// One [Client] per process, made by [NewClient] and ended by [Client.Close]. A
// [Config] is best made by [DefaultConfig] and its setters, or by
// [ConfigFromEnv].
//
// For one key
//
//   - to store, read and delete it: [Client.Put], [Client.Get], [Client.Delete];
//     with its revisions and lease: [Client.GetKV];
//   - to create it unless somebody else has: [Client.PutIfNotExists];
//   - to change a value that others change too: [Client.Update], or by hand
//     [Client.CompareAndSwap] and [Client.CompareAndSwapRevision];
//   - to store a value only if it is another one: [Client.PutIfChanged];
//   - to rename or copy it: [Client.MoveKey], [Client.CopyKey].
//
// For several keys
//
//   - that belong together: [Client.BulkPut], [Client.BulkGet] and
//     [Client.BulkDelete], each atomic; more of them than one request holds, in
//     several steps: [InChunks];
//   - all under a prefix: [Client.Range], [Client.List], [Client.ListWithValues],
//     [Client.Count] and [Client.DeletePrefix];
//   - too many to be held at once: [Client.Scan] to read, [Client.BulkLoad] to
//     store, [Client.Export] and [Client.Import] for files;
//   - under conditions: [Client.Txn], nested by [OpTxn];
//   - that are read, thought about and changed together: [Client.Transact].
//
// For values of a Go type instead of bytes, [Typed].
//
// To hear of changes, [Client.Watch] and [Client.WatchPrefix]; to know what is there
// and then hear of changes, from the next revision after that of [Client.Range].
//
// For a key that goes away with its process, such as a registration,
// [Client.Grant], [Client.PutWithLease] and [Client.KeepAlive]; for one that goes
// away after a time, [Client.PutWithTTL].
//
// For work that only one process may do at a time, [Client.WithLock], or
// [Client.NewLock] where the lock outlives a function.
//
// For secrets, [Config.WithEncryption], or [Config.WithKeyring] where keys are
// rotated: nothing else changes, comparisons of values included. For what this
// package does not offer, [Client.Raw], which bypasses all that is promised below.
// For tests with a real server, the module etcdtest beside this one.
//
// # What is promised
//
// Writes are executed at most once per call. A write is sent again only when it
// certainly was not applied: it never left the process, or the server refused
// it. When a call fails, [MaybeApplied] reports whether the write may have taken
// effect nevertheless; when it is false, no key was changed. [Client.Settle] looks
// for a write whose answer was lost, and a put [WithGuard] outlasts such a loss.
//
// What stands between can break this: a proxy that sends a request again whose answer
// it has lost (HAProxy with "retry-on all-retryable-errors", nginx with
// "grpc_next_upstream non_idempotent") executes a plain write twice, and the error is
// nil. Don't use such settings. With encryption, writes that are bound to what they
// found ([Client.Transact], [Client.Update], [Client.MoveKey], comparisons with a put,
// puts [WithGuard]) are known by their nonce and take effect once. Without it, or of a
// deletion, nothing tells the first execution from another client's write: Transact and
// Update may run their function on its own result, and a comparison answer false.
//
// Atomic, in one revision, are [Txn.Commit] and all calls that make one request
// for many keys: the bulk calls, [Client.DeletePrefix], [Client.MoveKey]. Not atomic
// are [InChunks], [Client.BulkLoad] and [Client.Import], which say how far they came.
// [Client.Update] and the comparisons never lose a concurrent change, and
// [Client.Transact] is serializable.
//
// Reads are linearizable: they see every write that was acknowledged before they
// began. Only [WithSerializable] gives that up. A list or a scan shows the
// keys as they were at one revision, however many requests it takes.
//
// A watch delivers every change once and in order, across lost connections,
// members and leaders, or ends with the reason in [WatchResponse.Err].
//
// A [Lock] excludes others while [Lock.Context] lives. Its end comes before the
// server gives the lock to another, because the time is counted from the moment a
// renewal was sent, provided that the clocks of both run equally fast. Code that
// is paused can't know: writes to etcd are made safe by [Lock.Held], other stores
// by [Lock.Token].
//
// A call ends with its context. Where that has no deadline, or there is no
// context, [Config.RequestTimeout] bounds it; [Lock.Lock] alone waits as long as
// its context allows, and takes a tenth of a second more to withdraw.
//
// Errors can be told apart by [errors.Is] with the sentinels of this package, and
// the usual one is an [*Error]. A connection that can't be made is reported with
// its true cause for each endpoint. What can be known to be wrong (an empty key, a
// request past the limits, a nil context) is refused before anything is sent.
//
// No secret, no value and no stored byte shows in an error or a log.
//
// # The format of stored values
//
// Without encryption and compression, what is stored is the value itself. With
// encryption it is version 1 of a format that any language can read: XAES-256-GCM
// under a key derived by HKDF-SHA-256, each value bound to its key in etcd, so
// that a value that was changed, cut or moved to another key is an error and never
// wrong data. A client with a key refuses values that are not encrypted, unless
// prefixes are configured otherwise. Compression is that of zstd. Version 1 never
// changes: every later release reads what an earlier one wrote.
//
// Encryption does not hide the names of keys, the lengths of values and the times of
// changes; nor does it keep somebody who can write to the cluster from putting back
// an older value of the same key.
package etcd
