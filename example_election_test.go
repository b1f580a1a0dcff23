package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/blueprint-go/etcd"
)

// The function runs while this process leads, and again should it lead again after a loss. What it
// writes with its context is applied only while it leads.
func ExampleClient_Lead() {
	client, end := exampleClient(nil)
	defer end()

	err := client.Lead(context.Background(), "/elections/scheduler", []byte("10.0.0.7:8080"), func(ctx context.Context) error {
		leader, err := etcd.ElectionOf(ctx).Leader(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("the scheduler is %s\n", leader.Value)
		return client.Put(ctx, "/jobs/1", []byte("planned"))
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: the scheduler is 10.0.0.7:8080
}

// Everybody may look who leads.
func ExampleElection() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	election, err := client.NewElection("/elections/scheduler")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = election.Close() }()
	_, err = election.Leader(ctx)
	fmt.Println("nobody yet:", errors.Is(err, etcd.ErrVacant))

	if err := election.Campaign(ctx, []byte("starting")); err != nil {
		log.Fatal(err)
	}
	if err := election.Proclaim(ctx, []byte("10.0.0.7:8080")); err != nil {
		log.Fatal(err)
	}
	leader, err := election.Leader(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %t\n", leader.Value, leader.Token == election.Token())

	guarded := election.Guard(ctx)
	if err := election.Resign(ctx); err != nil {
		log.Fatal(err)
	}
	err = client.Put(guarded, "/jobs/1", nil)
	fmt.Println("too late:", errors.Is(err, etcd.ErrLockLost))
	// Output:
	// nobody yet: true
	// 10.0.0.7:8080, true
	// too late: true
}

// The present leader comes first, and then each new one.
func ExampleElection_Observe() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	election, err := client.NewElection("/elections/scheduler")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = election.Close() }()
	if err := election.Campaign(ctx, []byte("10.0.0.7:8080")); err != nil {
		log.Fatal(err)
	}
	for leader, err := range election.Observe(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", leader.Value)
		break
	}
	// Output: 10.0.0.7:8080
}

// While instances that use clientv3's concurrency.Election still run, one leads of all of them: it has
// a key for either kind.
func ExampleWithBothKeys() {
	client, end := exampleClient(nil)
	defer end()

	err := client.Lead(context.Background(), "/elections/scheduler", []byte("10.0.0.7:8080"), func(ctx context.Context) error {
		theirs, err := client.ListWithValues(ctx, "/elections/scheduler/")
		if err != nil {
			return err
		}
		for _, value := range theirs {
			fmt.Printf("the old ones see %s lead\n", value)
		}
		return nil
	}, etcd.WithBothKeys())
	if err != nil {
		log.Fatal(err)
	}
	// Output: the old ones see 10.0.0.7:8080 lead
}

// A leader that is about to stop hands over to a candidate of its choice.
func ExampleWithSuccessor() {
	client, end := exampleClient(nil)
	defer end()
	ctx := context.Background()

	old, err := client.NewElection("/elections/scheduler", etcd.WithCandidate("old"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	if err := old.Campaign(ctx, []byte("old")); err != nil {
		log.Fatal(err)
	}
	if err := old.Resign(ctx, etcd.WithSuccessor("new")); errors.Is(err, etcd.ErrNoCandidate) {
		fmt.Println("not there yet, so the old one leads on:", old.Context().Err() == nil)
	}
	// Output: not there yet, so the old one leads on: true
}
