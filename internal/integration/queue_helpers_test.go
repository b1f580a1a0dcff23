package integration

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// openQueue opens a queue for one test.
func openQueue[T any](t testing.TB, c *etcd.Client, opts ...jobqueue.Option) *jobqueue.Queue[T] {
	t.Helper()
	return openQueueOf[T](t, c, prefix(t)+"queue", opts...)
}

func openQueueOf[T any](t testing.TB, c *etcd.Client, name string, opts ...jobqueue.Option) *jobqueue.Queue[T] {
	t.Helper()
	q, err := jobqueue.Open[T](t.Context(), c, name, append([]jobqueue.Option{jobqueue.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	return q
}

func push[T any](t testing.TB, q *jobqueue.Queue[T], values ...T) {
	t.Helper()
	for _, v := range values {
		require.NoError(t, q.Push(t.Context(), v))
	}
}

// popped returns the next job, which there must be.
func popped[T any](t testing.TB, q *jobqueue.Queue[T]) *jobqueue.Job[T] {
	t.Helper()
	j, err := q.Pop(within(t, patience))
	require.NoError(t, err)
	return j
}

// holds waits until a queue holds so many jobs.
func holds[T any](t testing.TB, q *jobqueue.Queue[T], want jobqueue.Counts) {
	t.Helper()
	var got jobqueue.Counts
	require.Eventually(t, func() bool {
		var err error
		got, err = q.Counts(t.Context())
		return err == nil && got == want
	}, patience, 10*time.Millisecond, "%+v", want)
}

// deadOf returns the dead jobs.
func deadOf[T any](t testing.TB, q *jobqueue.Queue[T]) []jobqueue.Dead[T] {
	t.Helper()
	var out []jobqueue.Dead[T]
	for d, err := range q.Dead(t.Context()) {
		require.NoError(t, err)
		out = append(out, d)
	}
	return out
}

// leaseOfJob returns the lease that the claim to a job of a queue hangs on, and the claim's key.
func leaseOfJob[T any](t testing.TB, c *etcd.Client, q *jobqueue.Queue[T], j *jobqueue.Job[T]) (etcd.LeaseID, string) {
	t.Helper()
	running := q.Name() + "\x01running/"
	keys, err := c.List(t.Context(), running)
	require.NoError(t, err)
	for _, key := range keys {
		if strings.Contains(key, j.ID()) {
			id, err := strconv.ParseInt(key[len(running):][:16], 16, 64)
			require.NoError(t, err)
			return etcd.LeaseID(id), key
		}
	}
	require.FailNow(t, "job without a claim")
	return 0, ""
}

// loseConsumer ends the lease of the consumer that has a job, and waits until the consumer knows.
func loseConsumer[T any](t testing.TB, c *etcd.Client, q *jobqueue.Queue[T], j *jobqueue.Job[T]) {
	t.Helper()
	id, _ := leaseOfJob(t, c, q, j)
	require.NoError(t, c.RevokeLease(t.Context(), id))
	closes(t, j.Context().Done())
}

// waitsInLine waits until n consumers of a queue that are not of one process wait in line.
func waitsInLine(t testing.TB, c *etcd.Client, name string, n int64) {
	t.Helper()
	queues(t, c, name+"\x01line", n)
}

// canceled returns a context that has ended.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
