// Sample is a tour of package etcd: each file beside this one shows one part of it on a
// real server. Without arguments it starts that server itself; run it with --help for the
// rest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/blueprint-go/etcd"
)

const usage = `Usage: sample [-endpoints host:port,...]

Shows what package etcd can do, on a server that it starts in its own process
and removes again, or on a cluster of yours:

  -endpoints list   endpoints of a running cluster, separated by commas
  -help             print this text

Environment:

  ETCD_ENDPOINTS    the same as -endpoints, which wins over it
  ETCDCTL_*         on a cluster of yours: user, certificates and timeouts, as
                    etcdctl understands them (ETCDCTL_USER, ETCDCTL_CACERT, ...)

All keys of the sample begin with /sample/. It deletes every key that begins so,
before and after the tour; it touches no other.

Exit status: 0 success, 1 failure, 2 bad arguments or configuration,
130 ended by Ctrl-C or SIGTERM.
`

// grace is how long the sample waits, after a signal, for calls that take no context and
// that a cluster leaves unanswered.
const grace = time.Second

func main() {
	// A reader that has gone, as in "sample | head", would end the process at once, and
	// its server's files would stay behind.
	signal.Ignore(syscall.SIGPIPE)
	// Never stopped: a further signal would end the process while it cleans up.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	os.Exit(run(ctx, os.Args[1:]))
}

// run returns the exit status.
func run(ctx context.Context, args []string) int {
	err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sample: %v; see --help\n", err)
		return 2
	}
	if err = tour(ctx); err == nil {
		return 0
	}
	if ctx.Err() != nil {
		fmt.Fprintf(os.Stderr, "sample: %v: %v\n", context.Cause(ctx), err)
		return 130
	}
	fmt.Fprintln(os.Stderr, "sample:", err)
	if errors.Is(err, etcd.ErrInvalidConfig) {
		return 2
	}
	return 1
}

// parse reads the arguments. The one flag replaces a variable of the environment, which
// [etcd.ConfigFromEnv] reads.
func parse(args []string) error {
	flags := flag.NewFlagSet("sample", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("endpoints", "", func(list string) error {
		return os.Setenv("ETCD_ENDPOINTS", list)
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return nil
}

// tour prepares a cluster and runs all demos on it.
func tour(ctx context.Context) (err error) {
	fmt.Println("etcd Provider Sample Application")
	fmt.Println("===============================")
	cfg, stop, err := cluster()
	if err != nil {
		return err
	}
	err = finish(ctx, func() error { return demos(ctx, cfg) })
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	fmt.Println("\nAll samples completed successfully!")
	return nil
}

// finish returns what f returns, or gives up on it some time after ctx has
// ended.
func finish(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
		return errors.New("a call still waits for the cluster")
	}
}
