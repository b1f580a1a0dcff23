package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// writesOfABuffer are writes whose value the caller has in a buffer. The key exists.
var writesOfABuffer = map[string]func(ctx context.Context, c *etcd.Client, key string, revision int64, buf []byte) error{
	"CompareAndSwapRevision": func(ctx context.Context, c *etcd.Client, key string, revision int64, buf []byte) error {
		return done(c.CompareAndSwapRevision(ctx, key, revision, buf))
	},
	"PutIfChanged": func(ctx context.Context, c *etcd.Client, key string, _ int64, buf []byte) error {
		return done(c.PutIfChanged(ctx, key, buf))
	},
	"Update": func(ctx context.Context, c *etcd.Client, key string, _ int64, buf []byte) error {
		return c.Update(ctx, key, func([]byte) ([]byte, error) { return buf, nil })
	},
	"Txn": func(ctx context.Context, c *etcd.Client, key string, revision int64, buf []byte) error {
		return second(c.Txn().If(etcd.ModRevision(key).Equal(revision)).Then(etcd.OpPut(key, buf)).Commit(ctx))
	},
	"Put with guard": func(ctx context.Context, c *etcd.Client, key string, _ int64, buf []byte) error {
		return c.Put(ctx, key, buf, etcd.WithGuard())
	},
}

func TestSettleDoesNotReadTheCallersBuffer(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	for _, m := range modes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		for name, write := range writesOfABuffer {
			key := prefix(t) + m.name + name
			require.NoError(t, c.Put(t.Context(), key, []byte("first")))
			_, revision, err := c.GetWithRevision(t.Context(), key)
			require.NoError(t, err)
			buf := []byte("sent")
			lost := write(faults.follow(t.Context(), losing(false)), c, key, revision, buf)
			require.True(t, etcd.MaybeApplied(lost), name)
			copy(buf, "next")
			outcome, err := c.Settle(t.Context(), lost)
			require.NoError(t, err)
			require.NotEqual(t, etcd.OutcomeNotApplied, outcome, "%s %s", m.name, name)
			if m.name == "encrypted" {
				require.Equal(t, etcd.OutcomeApplied, outcome, name)
			}
		}
	}
}

func TestJoinedErrorsAreMaybeAppliedIfAnyIs(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	refused := c.Put(t.Context(), "", nil)
	require.False(t, etcd.MaybeApplied(refused))
	applied := c.Put(faults.follow(t.Context(), losing(false)), prefix(t)+"applied", nil)
	unknown := c.Put(faults.follow(t.Context(), losing(true)), prefix(t)+"unknown", nil)
	_, missing := c.Get(t.Context(), prefix(t)+"missing")
	for name, tc := range map[string]struct {
		err   error
		maybe bool
		want  etcd.Outcome
	}{
		"last":               {errors.Join(refused, applied), true, etcd.OutcomeUnknown},
		"first":              {errors.Join(applied, refused), true, etcd.OutcomeUnknown},
		"deep":               {fmt.Errorf("b: %w, %w", refused, fmt.Errorf("a: %w", errors.Join(missing, applied))), true, etcd.OutcomeUnknown},
		"both applied":       {errors.Join(applied, applied), true, etcd.OutcomeApplied},
		"applied or unknown": {errors.Join(applied, unknown), true, etcd.OutcomeUnknown},
		"neither":            {errors.Join(refused, missing), false, etcd.OutcomeNotApplied},
		"wrapped":            {fmt.Errorf("a: %w", applied), true, etcd.OutcomeApplied},
	} {
		require.Equal(t, tc.maybe, etcd.MaybeApplied(tc.err), name)
		outcome, err := c.Settle(t.Context(), tc.err)
		require.NoError(t, err, name)
		require.Equal(t, tc.want.String(), outcome.String(), name)
	}
	_, err := c.Settle(t.Context(), errors.Join(context.Canceled, errors.New("mine")))
	require.ErrorIs(t, err, etcd.ErrInvalidArgument)
}

func TestGuardedPutHangsOnItsOwnLease(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	ctx := t.Context()
	for _, m := range modes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		for _, exists := range []bool{false, true} {
			key := fmt.Sprint(prefix(t), m.name, exists)
			if exists {
				require.NoError(t, c.Put(ctx, key, []byte("before")))
			}
			mine, err := c.Grant(ctx, time.Hour)
			require.NoError(t, err)
			theirs, err := c.Grant(ctx, time.Hour)
			require.NoError(t, err)
			var once sync.Once
			s := &script{answer: status.Error(codes.Unavailable, "injected"), writesOnly: true, times: 1, refuse: true}
			s.arrived = func(context.Context) {
				once.Do(func() { assert.NoError(t, c.PutWithLease(ctx, key, []byte("same"), theirs)) })
			}
			err = c.Put(faults.follow(ctx, s), key, []byte("same"), etcd.WithGuard(), etcd.WithLease(mine))
			kv, gerr := c.GetKV(ctx, key)
			require.NoError(t, gerr)
			if err == nil {
				require.Equal(t, mine, kv.Lease, key)
			} else {
				require.True(t, etcd.MaybeApplied(err), "%s: %v", key, err)
			}
			require.Equal(t, exists, err == nil, "%s: %v", key, err)
		}
	}
}

// A creation is under way for long: meanwhile somebody else creates the key just so,
// and deletes it after the guarded put has returned.
func TestGuardedCreationThatReturnedNilNeverComesAgain(t *testing.T) {
	t.Parallel()
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			var c *etcd.Client
			var creations atomic.Int64
			late := make(chan func() error, 1)
			srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
				func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
					if _, ok := req.(*pb.TxnRequest); !ok || !writes(req) || creations.Add(1) > 1 {
						return handler(ctx, req)
					}
					late <- func() error { return second(handler(context.WithoutCancel(ctx), req)) }
					assert.NoError(t, c.Put(t.Context(), prefix(t), []byte("v")))
					return nil, status.Error(codes.Unavailable, "gone")
				})))
			c = client(t, m.set(config(srv)).WithTimeout(busyTimeout))
			err := c.Put(t.Context(), prefix(t), []byte("v"), etcd.WithGuard())
			require.NoError(t, second(c.Delete(t.Context(), prefix(t))))
			require.NoError(t, (<-late)())
			exists, gerr := c.Exists(t.Context(), prefix(t))
			require.NoError(t, gerr)
			require.True(t, exists, "the creation came late")
			require.True(t, etcd.MaybeApplied(err), "%v", err)
		})
	}
}

func TestSettleKnowsNothingOfAnotherHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	var lose atomic.Bool
	srv := server(t, etcdtest.WithDir(dir), etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			if writes(req) && lose.Load() {
				return nil, status.Error(codes.Unknown, "injected")
			}
			return resp, err
		})))
	c := client(t, config(srv).WithTimeout(busyTimeout))
	ctx, key := t.Context(), prefix(t)
	require.NoError(t, c.Put(ctx, key, []byte("bound")))
	_, revision, err := c.GetWithRevision(ctx, key)
	require.NoError(t, err)
	backup := copied(t, srv, dir)
	for range 10 {
		require.NoError(t, c.Put(ctx, key+"-other", nil))
	}
	lose.Store(true)
	lost := done(c.CompareAndSwapRevision(ctx, key, revision, []byte("applied")))
	lose.Store(false)
	require.True(t, etcd.MaybeApplied(lost))
	v, err := c.Get(ctx, key)
	require.NoError(t, err)
	require.Equal(t, "applied", string(v))

	putBack(t, srv, dir, backup)
	require.NoError(t, c.Put(ctx, key, []byte("in another history")))
	outcome, err := c.Settle(ctx, lost)
	require.ErrorIs(t, err, etcd.ErrRevisionRegressed)
	require.Equal(t, etcd.OutcomeUnknown, outcome)
}
