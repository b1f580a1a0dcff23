package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/blueprint-go/etcd"
)

// The context of the function ends when the lock can't be relied upon any more, and writes
// made with it are applied only while the lock is held.
func ExampleClient_WithLock() {
	client, end := exampleClient(nil)
	defer end()

	err := client.WithLock(context.Background(), "/locks/report", func(ctx context.Context) error {
		fmt.Println("alone at work, with", etcd.LockOf(ctx).Name())
		return client.Put(ctx, "/report", []byte("done"))
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: alone at work, with /locks/report
}

// A lock that outlives a function. Guard binds writes to etcd to it; other stores can refuse
// a token older than one they have seen.
func ExampleLock() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	lock, err := client.NewLock("/locks/shard-7", etcd.WithLockTTL(10*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if err := lock.Lock(ctx); err != nil {
		log.Fatal(err)
	}
	guarded := lock.Guard(ctx)
	if err := client.Put(guarded, "/shard-7", []byte("mine")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(lock.Token() > 0)
	if err := lock.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	err = client.Put(guarded, "/shard-7", []byte("not mine"))
	fmt.Println(errors.Is(err, etcd.ErrLockLost), etcd.MaybeApplied(err))
	// Output:
	// true
	// true false
}

// Many locks share one lease, and are lost together.
func ExampleClient_NewSession() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	session, err := client.NewSession(ctx, etcd.WithSessionTTL(10*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	for _, shard := range []string{"1", "2", "3"} {
		lock, err := client.NewLock("/locks/shard-"+shard, etcd.WithSession(session))
		if err != nil {
			log.Fatal(err)
		}
		if err := lock.Lock(ctx); err != nil {
			log.Fatal(err)
		}
		context.AfterFunc(lock.Context(), func() { _ = lock.Close() }) // stop working on the shard
	}
	fmt.Println("held:", session.Context().Err() == nil)
	if err := session.Close(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("lost:", errors.Is(context.Cause(session.Context()), etcd.ErrClosed))
	// Output:
	// held: true
	// lost: true
}

func ExampleLock_TryLock() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	for _, node := range []string{"node-1", "node-2"} {
		lock, err := client.NewLock("/locks/cleanup")
		if err != nil {
			log.Fatal(err)
		}
		defer func() { _ = lock.Close() }()
		locked, err := lock.TryLock(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s cleans up: %t\n", node, locked)
	}
	// Output:
	// node-1 cleans up: true
	// node-2 cleans up: false
}

// Who holds a lock, and who waits for it.
func ExampleLock_Queue() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	lock, err := client.NewLock("/locks/report", etcd.WithOwner("report 2.1, ask team blue"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if err := lock.Lock(ctx); err != nil {
		log.Fatal(err)
	}
	claims, err := lock.Queue(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, claim := range claims {
		fmt.Println(claim.Held, claim.Owner.Text, claim.Owner.PID == os.Getpid(), claim.TTL > 0)
	}
	// Output: true report 2.1, ask team blue true true
}

// A lock that excludes programs which use clientv3's package concurrency, or "etcdctl lock".
func ExampleWithConcurrencyKeys() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	mine, err := client.NewLock("/locks/report", etcd.WithConcurrencyKeys())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = mine.Close() }()
	if err := mine.Lock(ctx); err != nil {
		log.Fatal(err)
	}

	session, err := concurrency.NewSession(client.Raw())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	theirs := concurrency.NewMutex(session, "/locks/report")
	fmt.Println(errors.Is(theirs.TryLock(ctx), concurrency.ErrLocked))
	// Output: true
}
