package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// popOps is how many operations a transaction of Pop has at most, as the doc of package queue says.
const popOps = 14

func TestPopNeedsTheOperationsItSays(t *testing.T) {
	t.Parallel()
	const few = popOps - 1
	enough, short := server(t, etcdtest.WithMaxTxnOps(popOps)), server(t, etcdtest.WithMaxTxnOps(few))
	q := openQueue[string](t, client(t, config(enough).WithMaxTxnOps(popOps)))
	push(t, q, "a")
	require.NoError(t, popped(t, q).Ack(t.Context()))
	for name, c := range map[string]*etcd.Client{
		"server": client(t, config(short)),
		"client": client(t, config(enough).WithMaxTxnOps(few)),
	} {
		q := openQueueOf[string](t, c, prefix(t)+name)
		push(t, q, "a")
		for _, err := range []error{
			second(q.Pop(within(t, patience))),
			second(q.TryPop(within(t, patience))),
			q.Work(within(t, patience), func(context.Context, *jobqueue.Job[string]) error { return nil }),
		} {
			require.ErrorIs(t, err, etcd.ErrTooManyOps, name)
			require.False(t, etcd.IsRetryable(err), name)
			require.False(t, etcd.MaybeApplied(err), name)
		}
		holds(t, q, jobqueue.Counts{Ready: 1})
	}
}
