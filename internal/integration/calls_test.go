package integration

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/barrier"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/live"
	"github.com/blueprint-go/etcd/mirror"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// A namedCall is a call of a package that works with a client, and what its errors name.
type namedCall struct {
	op string
	// key is what follows the key that the call is given.
	key string
	// prepare does what must have been done before, and returns the call.
	prepare func(t *testing.T, c *etcd.Client, key string) func(ctx context.Context) error
	// skips are the ways in which the call doesn't fail: it asks for no permission by itself, or
	// ends without an error.
	skips []string
}

// onQueue returns a call on a queue that holds a job.
func onQueue(call func(ctx context.Context, q *jobqueue.Queue[string]) error) func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
	return func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
		t.Helper()
		q, err := jobqueue.Open[string](t.Context(), c, key)
		require.NoError(t, err)
		t.Cleanup(func() { _ = q.Close() })
		push(t, q, "a")
		return func(ctx context.Context) error { return call(ctx, q) }
	}
}

// onJob returns a call on a job.
func onJob(call func(ctx context.Context, j *jobqueue.Job[string]) error) func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
	return func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
		t.Helper()
		var j *jobqueue.Job[string]
		f := onQueue(func(ctx context.Context, _ *jobqueue.Queue[string]) error { return call(ctx, j) })(t, c, key)
		q, err := jobqueue.Open[string](t.Context(), c, key)
		require.NoError(t, err)
		t.Cleanup(func() { _ = q.Close() })
		j = popped(t, q)
		return f
	}
}

// onBarrier returns a call on a barrier, which is held first if held is true.
func onBarrier(held bool, call func(ctx context.Context, b *barrier.Barrier) error) func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
	return func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
		t.Helper()
		b, err := barrier.New(c, key)
		require.NoError(t, err)
		t.Cleanup(func() { _ = b.Close() })
		if held {
			require.NoError(t, b.Hold(t.Context()))
		}
		return func(ctx context.Context) error { return call(ctx, b) }
	}
}

// onDouble is onBarrier for a double barrier of one.
func onDouble(entered bool, call func(ctx context.Context, d *barrier.Double) error) func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
	return func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
		t.Helper()
		d, err := barrier.NewDouble(c, key, 1)
		require.NoError(t, err)
		t.Cleanup(func() { _ = d.Close() })
		if entered {
			require.NoError(t, d.Enter(t.Context()))
		}
		return func(ctx context.Context) error { return call(ctx, d) }
	}
}

// onRegistration returns a call on a registration.
func onRegistration(call func(ctx context.Context, r *discovery.Registration) error) func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
	return func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
		t.Helper()
		r := registered(t, c, "s", "a", discovery.WithPrefix(key))
		t.Cleanup(func() { _ = r.Close(context.WithoutCancel(t.Context())) })
		return func(ctx context.Context) error { return call(ctx, r) }
	}
}

// on returns a call that needs nothing before.
func on(call func(ctx context.Context, c *etcd.Client, key string) error) func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
	return func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
		return func(ctx context.Context) error { return call(ctx, c, key) }
	}
}

var namedCalls = map[string]namedCall{
	"Push": {op: "push", prepare: onQueue(func(ctx context.Context, q *jobqueue.Queue[string]) error { return q.Push(ctx, "b") })},
	"Pop":  {op: "pop", prepare: onQueue(func(ctx context.Context, q *jobqueue.Queue[string]) error { return second(q.Pop(ctx)) })},
	"TryPop": {op: "pop", prepare: onQueue(func(ctx context.Context, q *jobqueue.Queue[string]) error {
		return second(q.TryPop(ctx))
	})},
	"Work": {op: "work", prepare: onQueue(func(ctx context.Context, q *jobqueue.Queue[string]) error {
		return q.Work(ctx, func(context.Context, *jobqueue.Job[string]) error { return nil })
	})},
	"Counts": {op: "count jobs", prepare: onQueue(func(ctx context.Context, q *jobqueue.Queue[string]) error {
		return second(q.Counts(ctx))
	})},
	"Dead": {op: "list dead jobs", prepare: onQueue(func(ctx context.Context, q *jobqueue.Queue[string]) (last error) {
		for _, err := range q.Dead(ctx) {
			last = err
		}
		return last
	})},
	"Requeue": {op: "requeue", prepare: onQueue(func(ctx context.Context, q *jobqueue.Queue[string]) error { return q.Requeue(ctx, noJob) })},
	"Discard": {op: "discard", prepare: onQueue(func(ctx context.Context, q *jobqueue.Queue[string]) error { return q.Discard(ctx, noJob) })},
	"Ack":     {op: "ack", prepare: onJob(func(ctx context.Context, j *jobqueue.Job[string]) error { return j.Ack(ctx) })},
	"Nack":    {op: "nack", prepare: onJob(func(ctx context.Context, j *jobqueue.Job[string]) error { return j.Nack(ctx, 0) })},
	"Bury":    {op: "bury", prepare: onJob(func(ctx context.Context, j *jobqueue.Job[string]) error { return j.Bury(ctx, "") })},
	"Hold":    {op: "hold barrier", prepare: onBarrier(false, func(ctx context.Context, b *barrier.Barrier) error { return b.Hold(ctx) })},
	"Release": {op: "release barrier", prepare: onBarrier(true, func(ctx context.Context, b *barrier.Barrier) error { return b.Release(ctx) })},
	"Wait":    {op: "wait at barrier", prepare: onBarrier(true, func(ctx context.Context, b *barrier.Barrier) error { return b.Wait(ctx) })},
	"Enter":   {op: "enter barrier", prepare: onDouble(false, func(ctx context.Context, d *barrier.Double) error { return d.Enter(ctx) })},
	"Leave":   {op: "leave barrier", prepare: onDouble(true, func(ctx context.Context, d *barrier.Double) error { return d.Leave(ctx) })},
	"Register": {op: "register", key: "s/b", prepare: on(func(ctx context.Context, c *etcd.Client, key string) error {
		return second(discovery.Register(ctx, c, "s", discovery.Instance{ID: "b", Address: "x"}, discovery.WithPrefix(key)))
	})},
	"Update": {op: "update registration", key: "s/a", prepare: onRegistration(func(ctx context.Context, r *discovery.Registration) error {
		return r.Update(ctx, discovery.Instance{Address: "y"})
	})},
	"Drain": {op: "drain", key: "s/a", prepare: onRegistration(func(ctx context.Context, r *discovery.Registration) error { return r.Drain(ctx) })},
	"Close": {op: "close registration", key: "s/a", prepare: onRegistration(func(ctx context.Context, r *discovery.Registration) error {
		return r.Close(ctx)
	})},
	"Instances": {op: "instances", prepare: on(func(ctx context.Context, c *etcd.Client, key string) error {
		return second(discovery.Instances(ctx, c, key))
	})},
	"Watch": {op: "watch service", skips: []string{"no permission", "ended context"}, prepare: on(func(ctx context.Context, c *etcd.Client, key string) error {
		return lastWatched(ctx, c, key)
	})},
	"Mirror": {op: "open mirror", prepare: on(func(ctx context.Context, c *etcd.Client, key string) error { return second(mirror.Open(ctx, c, key)) })},
	"Fresh": {op: "freshen mirror", skips: []string{"no permission"}, prepare: func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
		t.Helper()
		m, err := mirror.Open(t.Context(), c, key)
		require.NoError(t, err)
		t.Cleanup(m.Close)
		return m.Fresh
	}},
	"Live": {op: "open configuration", prepare: on(func(ctx context.Context, c *etcd.Client, key string) error {
		return second(live.Open[service](ctx, c, key))
	})},
	"Document": {op: "open configuration", prepare: on(func(ctx context.Context, c *etcd.Client, key string) error {
		return second(live.OpenDocument[service](ctx, c, key))
	})},
}

// noJob is an ID that no job has.
const noJob = "000000000000000000000000"

// The error of a call says which one failed, and of what, and not what was asked for on the way.
func TestErrorsNameTheCallOfThePackage(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	for name, tc := range namedCalls {
		for how, way := range map[string]struct {
			want error
			ctx  func(ctx context.Context, c *etcd.Client) context.Context
		}{
			"closed client": {etcd.ErrClosed, func(ctx context.Context, c *etcd.Client) context.Context {
				_ = c.Close()
				return ctx
			}},
			"ended context": {context.Canceled, func(context.Context, *etcd.Client) context.Context { return canceled() }},
			"no permission": {etcd.ErrPermissionDenied, func(ctx context.Context, _ *etcd.Client) context.Context {
				return faults.follow(ctx, &script{answer: rpctypes.ErrGRPCPermissionDenied, refuse: true})
			}},
		} {
			if slices.Contains(tc.skips, how) {
				continue
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				c, key := client(t, config(srv)), "/"+name+"/"+how+"/"
				call := tc.prepare(t, c, key)
				err := call(way.ctx(within(t, patience), c))
				require.ErrorIs(t, err, way.want)
				failed, ok := err.(*etcd.Error)
				require.True(t, ok, "%T: %v", err, err)
				require.Equal(t, tc.op, failed.Op)
				require.Equal(t, key+tc.key, failed.Key)
				inner, ok := failed.Err.(*etcd.Error)
				require.False(t, ok, "%v", inner)
			})
		}
	}
}
