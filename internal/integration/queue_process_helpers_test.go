package integration

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/blueprint-go/etcd"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// workerVariable makes the test binary a consumer of a queue: its value is the endpoints, the name
// of the queue, the prefix of the effects and the file that gets a line for each attempt, one a
// line.
const workerVariable = "ETCD_INTEGRATION_QUEUE_WORKER"

const (
	workerVisibility = 2 * time.Second
	workerAtOnce     = 4 // jobs
)

// workIfAsked works on a queue until the process is killed, if it is the child of a test, and
// reports whether it was.
func workIfAsked() bool {
	asked := os.Getenv(workerVariable)
	if asked == "" {
		return false
	}
	if err := workOn(strings.Split(asked, "\n")); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
	return true
}

func workOn(args []string) error {
	endpoints, name, effects, path := args[0], args[1], args[2], args[3]
	attempts, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(strings.Split(endpoints, ",")...).WithTimeout(busyTimeout))
	if err != nil {
		return err
	}
	ctx := context.Background()
	q, err := jobqueue.Open[int](ctx, c, name, jobqueue.WithVisibility(workerVisibility), jobqueue.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	errs := make(chan error, workerAtOnce)
	var wg sync.WaitGroup
	for range workerAtOnce {
		wg.Go(func() {
			errs <- q.Work(ctx, func(ctx context.Context, j *jobqueue.Job[int]) error {
				if _, err := fmt.Fprintln(attempts, j.Value); err != nil {
					return err
				}
				return j.AckWith(ctx, etcd.OpPut(effect(effects, j.Value), nil))
			})
		})
	}
	err = <-errs // Work ends only by what can't be cured
	wg.Wait()
	return err
}
