package main

import (
	"context"
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

// locks takes a lock in every possible way.
func locks(ctx context.Context, client *etcd.Client) error {
	const name = prefix + "locks/demo-lock"

	lock, err := client.NewLock(name, etcd.WithTryWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer lock.Close()
	fmt.Printf("Created lock: %s\n", lock.Name())

	if err := block(ctx, lock); err != nil {
		return err
	}
	if err := try(ctx, lock); err != nil {
		return err
	}
	if err := compete(ctx, client, lock); err != nil {
		return err
	}
	fmt.Println("Distributed lock demo completed")
	return nil
}

// block waits for the lock for as long as it takes.
func block(ctx context.Context, lock *etcd.Lock) error {
	fmt.Println("Testing blocking lock acquisition...")
	if err := lock.Lock(ctx); err != nil {
		return err
	}
	fmt.Println("Lock acquired successfully")

	// Real work would go on with lock.Context(), which ends if the lock is lost.
	fmt.Println("Performing critical section work...")

	if err := lock.Unlock(ctx); err != nil {
		return err
	}
	fmt.Println("Lock released")
	return nil
}

// try waits for the lock only as long as [etcd.WithTryWait] said.
func try(ctx context.Context, lock *etcd.Lock) error {
	fmt.Println("Testing TryLock (non-blocking) with 100ms timeout...")
	acquired, err := lock.TryLock(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("TryLock result: %t\n", acquired)
	if !acquired {
		return nil
	}
	fmt.Println("TryLock succeeded")

	if err := lock.Unlock(ctx); err != nil {
		return err
	}
	fmt.Println("TryLock released")
	return nil
}

// compete makes a second lock of the same name wait for the first, as another process
// would.
func compete(ctx context.Context, client *etcd.Client, lock *etcd.Lock) error {
	fmt.Println("Testing concurrent lock access...")
	if err := lock.Lock(ctx); err != nil {
		return err
	}
	lock2, err := client.NewLock(lock.Name(), etcd.WithTryWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer lock2.Close()

	acquired, err := lock2.TryLock(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("TryLock while other lock held: %t (should be false)\n", acquired)

	if err := lock.Unlock(ctx); err != nil {
		return err
	}
	if err := lock2.Lock(ctx); err != nil {
		return err
	}
	fmt.Println("Lock2 acquired successfully")
	if err := lock2.Unlock(ctx); err != nil {
		return err
	}
	fmt.Println("Lock2 released")
	return nil
}
