package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/memserver"
	"github.com/blueprint-go/etcd/queue"
)

// Mail is a job of the examples.
type Mail struct{ To string }

// exampleClient returns a client of a server in memory.
func exampleClient() (client *etcd.Client, end func()) {
	endpoint, stop, err := memserver.New().Serve()
	if err != nil {
		log.Fatal(err)
	}
	if client, err = etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoint)); err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		stop()
	}
}

// exampleQueue returns a queue on a server in memory.
func exampleQueue() (mails *queue.Queue[Mail], client *etcd.Client, end func()) {
	client, endClient := exampleClient()
	mails, err := queue.Open[Mail](context.Background(), client, "/queues/mail")
	if err != nil {
		log.Fatal(err)
	}
	return mails, client, func() {
		_ = mails.Close()
		endClient()
	}
}

// Push jobs here, and do them there.
func Example() {
	client, end := exampleClient()
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	mails, err := queue.Open[Mail](ctx, client, "/queues/mail")
	if err != nil {
		log.Fatal(err)
	}
	defer mails.Close()
	for _, to := range []string{"ada", "grace"} {
		if err := mails.Push(ctx, Mail{To: to}); err != nil {
			log.Fatal(err)
		}
	}

	err = mails.Work(ctx, func(_ context.Context, job *queue.Job[Mail]) error {
		fmt.Println("mail to", job.Value.To)
		if job.Value.To == "grace" {
			cancel() // enough for an example
		}
		return nil // done; an error has it tried again later
	})
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// mail to ada
	// mail to grace
	// true
}

// What a job does in etcd is done exactly once if it is part of the acknowledgement.
func ExampleJob_AckWith() {
	mails, client, end := exampleQueue()
	defer end()
	ctx := context.Background()
	if err := mails.Push(ctx, Mail{To: "ada"}); err != nil {
		log.Fatal(err)
	}

	job, err := mails.Pop(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// Send it, with job.Context(), which ends should the job be lost.
	if err := job.AckWith(ctx, etcd.OpPut("/sent/"+job.Value.To, []byte("yes"))); err != nil {
		log.Fatal(err) // errors.Is(err, queue.ErrClaimLost): another consumer has it now
	}
	sent, err := client.Get(ctx, "/sent/ada")
	fmt.Println(string(sent), err)
	// Output: yes <nil>
}

// Give a job back, to be tried again later.
func ExampleJob_Nack() {
	mails, _, end := exampleQueue()
	defer end()
	ctx := context.Background()
	if err := mails.Push(ctx, Mail{To: "ada"}); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		job, err := mails.Pop(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("attempt", job.Attempt())
		if err := job.Nack(ctx, 10*time.Millisecond); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// attempt 1
	// attempt 2
}

// Important jobs first, others later.
func ExampleQueue_Push() {
	mails, _, end := exampleQueue()
	defer end()
	ctx := context.Background()
	err := errors.Join(
		mails.Push(ctx, Mail{To: "everybody"}, queue.WithDelay(50*time.Millisecond)),
		mails.Push(ctx, Mail{To: "ada"}),
		mails.Push(ctx, Mail{To: "the boss"}, queue.WithPriority(9)),
	)
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		job, err := mails.Pop(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(job.Value.To)
		if err := job.Ack(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// the boss
	// ada
	// everybody
}

// Follow a job by another one, exactly once.
func ExampleQueue_PushOps() {
	mails, client, end := exampleQueue()
	defer end()
	ctx := context.Background()
	receipts, err := queue.Open[string](ctx, client, "/queues/receipts")
	if err != nil {
		log.Fatal(err)
	}
	defer receipts.Close()
	if err := mails.Push(ctx, Mail{To: "ada"}); err != nil {
		log.Fatal(err)
	}

	job, err := mails.Pop(ctx)
	if err != nil {
		log.Fatal(err)
	}
	next, err := receipts.PushOps("sent to " + job.Value.To)
	if err != nil {
		log.Fatal(err)
	}
	if err := job.AckWith(ctx, next...); err != nil {
		log.Fatal(err)
	}
	receipt, err := receipts.Pop(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Value)
	// Output: sent to ada
}

// Look at the jobs that nobody could do, and try one again.
func ExampleQueue_Dead() {
	mails, _, end := exampleQueue()
	defer end()
	ctx := context.Background()
	if err := mails.Push(ctx, Mail{To: "nobody"}); err != nil {
		log.Fatal(err)
	}
	job, err := mails.Pop(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := job.Bury(ctx, "no such address"); err != nil {
		log.Fatal(err)
	}

	for dead, err := range mails.Dead(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(dead.Value.To, "-", dead.Reason)
		if err := mails.Requeue(ctx, dead.ID); err != nil {
			log.Fatal(err)
		}
	}
	counts, err := mails.Counts(ctx)
	fmt.Println(counts.Ready, counts.Dead, err)
	// Output:
	// nobody - no such address
	// 1 0 <nil>
}
