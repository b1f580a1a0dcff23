// Package queue is a queue of jobs in etcd: any number of processes push jobs, any number take
// them, and a job is done at least once, whatever becomes of the process that has it.
//
//	mails, err := queue.Open[Mail](ctx, client, "/queues/mail")
//	…
//	err = mails.Push(ctx, Mail{To: "ada@example.org"})
//
// and in the consumers
//
//	err = mails.Work(ctx, func(ctx context.Context, job *queue.Job[Mail]) error {
//		return send(ctx, job.Value)
//	})
//
// [Queue.Work] pops, runs the function and settles; [Queue.Pop] is for those who do that
// themselves. A job is claimed by a lease, which is renewed as long as its consumer lives. When
// the consumer dies, is cut off or is paused for longer than [WithVisibility], its context ends
// ([Job.Context]), in time, and another consumer gets the job.
//
// # At least once, exactly once
//
// A job may be done twice: by a consumer that dies after the work and before the
// acknowledgement, and by one that goes on after its context has ended. What it does in
// etcd is done exactly once if it is part of the acknowledgement:
//
//	err := job.AckWith(ctx, etcd.OpPut("/mails/sent/"+job.ID(), nil))
//
// Those operations and the removal of the job are one transaction, which is bound to the claim. A
// consumer that lost its claim gets [ErrClaimLost], and nothing is applied. For other stores,
// [Job.ID] tells the attempts at one job from other jobs.
//
// # The order
//
// Jobs of a higher priority come first ([WithPriority]), and those of one priority in the
// order of the times of their pushes, by the clocks of those who pushed. Several consumers
// take them about in that order: each takes one of the first. A job that waits for another attempt
// keeps its place. If clocks differ by more than two seconds, consumers may notice a job about
// ten seconds late, or a minute while they have others to do.
//
// # What becomes of bad jobs
//
// A job that fails too often ([WithMaxAttempts]), that can't be decoded, or that a consumer
// buries ([Job.Bury]) is moved to the dead ones: no consumer gets it any more, nothing deletes
// it, and [Queue.Dead] lists it until [Queue.Requeue] or [Queue.Discard]. A consumer that lacks
// the encryption key of a job, or that doesn't encrypt at all, can't decode it and moves it there as
// well: put the key into all consumers before the producers use it.
//
// # What it costs
//
// A push is a request, of two keys. A job takes three requests from a consumer: a read of the
// head of the queue, the claim, which brings the value, and the acknowledgement. Consumers
// cost two leases each, and a job wakes one of those that wait, however many there are. Like any
// data that changes much, a queue wants the cluster to be compacted now and then.
//
// The largest transactions are those of [Queue.Pop], of 14 operations. Where the servers'
// --max-txn-ops, or [etcd.Config.MaxTxnOps], is lower (the default of both is 128), Pop fails with
// [etcd.ErrTooManyOps], and the jobs stay where they are.
//
// The keys lie under the name of the queue and a byte 1: don't write there by hand. The values
// of jobs are stored as other values of the client are, encrypted if it encrypts; IDs,
// priorities and times are names of keys, which encryption doesn't hide.
package queue
