// Command listwatch prints the keys under a prefix, and every change of them from then
// on: it lists, watches from the revision of the list, and lists again if it was away for
// so long that the history in between is compacted.
//
//	ETCD_ENDPOINTS=localhost:2379 go run ./examples/listwatch /app/
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/blueprint-go/etcd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && !interrupted {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errors.New("usage: listwatch PREFIX")
	}
	cfg, err := etcd.ConfigFromEnv()
	if err != nil {
		return err
	}
	client, err := etcd.NewClient(cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	return follow(ctx, client, args[0], func(c change) { fmt.Println(c) })
}

// change is a key with its value, or its deletion.
type change struct {
	key     string
	value   []byte
	deleted bool
}

func (c change) String() string {
	if c.deleted {
		return c.key + " is gone"
	}
	return fmt.Sprintf("%s = %s", c.key, c.value)
}

// follow reports what is under prefix, and then every change, in order for each key. A
// key that changed several times while its history was compacted is reported once; a
// deletion is reported in any case. It returns when ctx ends, or with an error that
// doesn't pass by itself.
func follow(ctx context.Context, client *etcd.Client, prefix string, tell func(change)) error {
	known := map[string]int64{} // the mod revision of each key that was reported
	for ctx.Err() == nil {
		list, err := client.Range(ctx, prefix)
		switch {
		case etcd.IsRetryable(err):
			continue // it has been tried until its deadline
		case err != nil:
			return err
		}
		compare(known, list.KVs, tell)
		err = watch(ctx, client, prefix, list.Revision+1, known, tell)
		if !errors.Is(err, etcd.ErrCompacted) {
			return err
		}
	}
	return ctx.Err()
}

// compare reports what differs from known, including deletions, which no list contains.
func compare(known map[string]int64, list []etcd.KeyValue, tell func(change)) {
	gone := make(map[string]bool, len(known))
	for key := range known {
		gone[key] = true
	}
	for _, kv := range list {
		delete(gone, kv.Key)
		if known[kv.Key] != kv.ModRevision {
			known[kv.Key] = kv.ModRevision
			tell(change{key: kv.Key, value: kv.Value})
		}
	}
	for key := range gone {
		delete(known, key)
		tell(change{key: key, deleted: true})
	}
}

// watch reports every change from a revision on. It survives lost connections; it returns
// why it ended.
func watch(ctx context.Context, client *etcd.Client, prefix string, from int64, known map[string]int64, tell func(change)) error {
	for resp := range client.WatchPrefix(ctx, prefix, etcd.WithRevision(from)) {
		for _, ev := range resp.Events {
			if ev.Err != nil {
				return ev.Err // a value that can't be decoded
			}
			if ev.Type == etcd.EventDelete {
				delete(known, ev.Kv.Key)
				tell(change{key: ev.Kv.Key, deleted: true})
				continue
			}
			known[ev.Kv.Key] = ev.Kv.ModRevision
			tell(change{key: ev.Kv.Key, value: ev.Kv.Value})
		}
		if err := resp.Err(); err != nil {
			return err
		}
	}
	return ctx.Err()
}
