package integration

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestRegistrationOutlivesItsLease(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	r := registered(t, c, "cart", "a")
	for range 3 {
		before := r.Status()
		require.NoError(t, c.RevokeLease(t.Context(), before.Lease))
		stands(t, c, r, before.Revision)
		require.NotEqual(t, before.Lease, r.Status().Lease)
		require.Equal(t, before.Recoveries+1, r.Status().Recoveries)
	}
	require.Equal(t, []string{"a"}, ids(t, c, "cart"))
	require.NoError(t, r.Context().Err())
}

func TestRegistrationOutlivesDeletionAndOverwriting(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	r := registered(t, c, "cart", "a")
	foreign, err := c.Grant(ctx, time.Minute)
	require.NoError(t, err)
	mine, err := c.Get(ctx, r.Key())
	require.NoError(t, err)
	for name, harm := range map[string]func() error{
		"deletion":                    func() error { return second(c.Delete(ctx, r.Key())) },
		"deletion of all":             func() error { return second(c.DeletePrefix(ctx, discovery.DefaultPrefix)) },
		"garbage":                     func() error { return c.Put(ctx, r.Key(), []byte("{")) },
		"garbage, with the lease":     func() error { return c.Put(ctx, r.Key(), nil, etcd.WithIgnoreLease()) },
		"garbage, with another lease": func() error { return c.PutWithLease(ctx, r.Key(), []byte("x"), foreign) },
		"itself, without a lease":     func() error { return c.Put(ctx, r.Key(), mine) },
		"itself, with another lease":  func() error { return c.PutWithLease(ctx, r.Key(), mine, foreign) },
		"a static instance":           func() error { return c.Put(ctx, r.Key(), []byte(`{"address":"elsewhere"}`)) },
	} {
		before := r.Status().Revision
		require.NoError(t, harm(), name)
		require.Eventually(t, func() bool {
			now := r.Status()
			return now.Registered && now.Revision > before
		}, patience, time.Millisecond, name)
		stands(t, c, r, before)
		found, err := discovery.Instances(ctx, c, "cart")
		require.NoError(t, err, name)
		require.Equal(t, []discovery.Instance{{ID: "a", Address: "addr-a"}}, found, name)
	}
	require.NoError(t, r.Close(ctx))
	require.Empty(t, ids(t, c, "cart"))
}

// They lose their lease while the cluster is down.
func TestRegistrationsOutliveAFullOutage(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithTimeout(300*time.Millisecond))
	var all []*discovery.Registration
	for i := range 20 {
		all = append(all, registered(t, c, "cart", fmt.Sprint(i), discovery.WithTTL(time.Second)))
	}
	srv.Stop()
	for _, r := range all {
		isLost(t, r, etcd.ErrLeaseLost)
	}
	require.NoError(t, srv.Restart())
	direct := client(t, config(srv))
	for _, r := range all {
		require.Eventually(t, func() bool { return r.Status().Registered }, patience, time.Millisecond)
		stands(t, direct, r, 0)
	}
	require.Len(t, ids(t, direct, "cart"), len(all))
}

// Neither the key nor the lease exists in the history that the cluster goes back to.
func TestRegistrationOutlivesARestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir), etcdtest.WithFsync())
	c := client(t, config(srv))
	early := registered(t, c, "cart", "early")
	backup := copied(t, srv, dir)
	late := registered(t, c, "cart", "late", discovery.WithTTL(time.Minute))
	for range 50 { // so that the history can be told from the other one
		require.NoError(t, c.Put(within(t, patience), "/k", nil))
	}
	putBack(t, srv, dir, backup)
	for _, r := range []*discovery.Registration{early, late} {
		require.Eventually(t, func() bool {
			kv, err := c.GetKV(t.Context(), r.Key())
			s := r.Status()
			return err == nil && s.Registered && kv.ModRevision == s.Revision && kv.Lease == s.Lease
		}, patience, time.Millisecond)
	}
	require.Equal(t, []string{"early", "late"}, ids(t, c, "cart"))
}

func TestRegistrationOutlivesAPasswordChange(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("first"))
	var password atomic.Value
	password.Store("first")
	c := client(t, config(srv).WithCredentials(func(context.Context) (string, string, error) {
		return "root", password.Load().(string), nil
	}))
	r := registered(t, c, "cart", "a", discovery.WithTTL(2*time.Second))
	before := r.Status()
	require.NoError(t, second(c.Raw().UserChangePassword(t.Context(), "root", "second")))
	admin := client(t, config(srv).WithAuth("root", "second"))
	require.NoError(t, admin.RevokeLease(t.Context(), before.Lease))
	isLost(t, r, etcd.ErrAuthFailed)
	password.Store("second")
	stands(t, admin, r, before.Revision)
}

func TestRegistrationOutlivesAnExpiredToken(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t, etcdtest.WithAuth("root"), etcdtest.WithAuthTokenTTL(time.Second))
	c := client(t, config(srv).WithAuth("root", "root"))
	admin := client(t, config(srv).WithAuth("root", "root"))
	r := registered(t, c, "cart", "a")
	for range 2 {
		before, asked := r.Status(), f.authentications.Load()
		require.Eventually(t, func() bool { // it lives on while it is used
			return second(admin.Exists(t.Context(), "/")) == nil && f.authentications.Load() > asked
		}, patience, 2500*time.Millisecond)
		require.NoError(t, second(admin.Delete(t.Context(), r.Key())))
		stands(t, admin, r, before.Revision)
	}
}

func TestManyRegistrationsShareOneLease(t *testing.T) {
	t.Parallel()
	const n = 300
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	var all []*discovery.Registration
	for i := range n {
		all = append(all, registered(t, c, fmt.Sprint("service-", i%7), fmt.Sprint(i)))
	}
	require.Equal(t, 1, leases(t, c))
	require.NoError(t, c.RevokeLease(ctx, all[0].Status().Lease))
	for _, r := range all {
		stands(t, c, r, r.Status().Revision-1)
		require.Eventually(t, func() bool { return r.Status().Recoveries == 1 }, patience, time.Millisecond)
	}
	require.Equal(t, 1, leases(t, c), "a new one for all of them")
	found, err := c.Count(ctx, discovery.DefaultPrefix)
	require.NoError(t, err)
	require.EqualValues(t, n, found, "none is missing")
	for _, r := range all {
		require.NoError(t, r.Close(ctx))
	}
	found, err = c.Count(ctx, discovery.DefaultPrefix)
	require.NoError(t, err)
	require.Zero(t, found)
	require.Zero(t, leases(t, c))
}

func TestTwoInstancesWithOneIDAreRefused(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	ctx := within(t, patience)
	first := registered(t, c, "cart", "a")
	for _, one := range []*etcd.Client{c, other} {
		_, err := discovery.Register(ctx, one, "cart", discovery.Instance{ID: "a", Address: "elsewhere"})
		require.ErrorIs(t, err, discovery.ErrDuplicateInstance)
		require.ErrorContains(t, err, `"a"`)
		require.False(t, etcd.MaybeApplied(err))
	}
	waiting, err := discovery.Register(ctx, other, "cart", discovery.Instance{ID: "a", Address: "elsewhere"}, discovery.WithBackground())
	require.NoError(t, err)
	isLost(t, waiting, discovery.ErrDuplicateInstance)
	found, err := discovery.Instances(ctx, c, "cart")
	require.NoError(t, err)
	require.Equal(t, "addr-a", found[0].Address)
	require.NoError(t, first.Close(ctx))
	stands(t, c, waiting, 0)
}

// One that has lost its lease doesn't take the id back from whoever has it by then.
func TestRegistrationNeverTakesAnIDFromAnother(t *testing.T) {
	t.Parallel()
	srv := server(t)
	o := newOutage(t, etcd.DefaultConfig(), srv)
	ctx := within(t, patience)
	r := registered(t, o.c, "cart", "a", discovery.WithTTL(time.Second))
	o.begin()
	isLost(t, r, etcd.ErrLeaseLost)
	var other *discovery.Registration
	require.Eventually(t, func() (ok bool) { // when the lease has ended on the server too
		var err error
		other, err = discovery.Register(ctx, o.direct, "cart", discovery.Instance{ID: "a", Address: "elsewhere"})
		return err == nil
	}, patience, 10*time.Millisecond)
	o.proxy.Heal()
	isLost(t, r, discovery.ErrDuplicateInstance)
	stands(t, o.direct, other, 0)
	require.NoError(t, other.Close(ctx))
	stands(t, o.direct, r, 0)
}

func TestUpdateAndDrainAreSeenByAll(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx := within(t, patience)
	states := statesOf(ctx, client(t, config(srv)), "cart")
	require.ErrorIs(t, next(t, states).err, discovery.ErrUnknownService)
	whole := discovery.Instance{
		ID: "a", Address: "10.0.0.1:80", Zone: "eu-1a", Version: "1.2.3", Weight: 7,
		Metadata: map[string]string{"shard": "<3>", "größe": "L"},
	}
	r, err := discovery.Register(ctx, c, "cart", whole)
	require.NoError(t, err)
	require.Equal(t, []discovery.Instance{whole}, stateWith(t, states, "a").Instances)
	heavier := whole
	heavier.Weight, heavier.ID = 70, ""
	require.NoError(t, r.Update(ctx, heavier))
	require.EqualValues(t, 70, next(t, states).Instances[0].Weight)
	require.NoError(t, r.Drain(ctx))
	require.True(t, next(t, states).Instances[0].Draining)
	heavier.Metadata["shard"] = "changed by the caller"
	before := r.Status().Revision
	require.NoError(t, second(c.Delete(ctx, r.Key())))
	stands(t, c, r, before)
	again, err := discovery.Instances(ctx, c, "cart")
	require.NoError(t, err)
	require.True(t, again[0].Draining, "what is put again is the newest")
	require.Equal(t, "<3>", again[0].Metadata["shard"])
	require.ErrorIs(t, r.Update(ctx, discovery.Instance{ID: "b", Address: "x"}), etcd.ErrInvalidArgument)
	require.ErrorIs(t, r.Update(ctx, discovery.Instance{}), etcd.ErrInvalidArgument)
	require.NoError(t, r.Close(ctx))
	require.Empty(t, o.during(func() {
		require.ErrorIs(t, r.Update(ctx, heavier), etcd.ErrClosed)
		require.ErrorIs(t, r.Drain(ctx), etcd.ErrClosed)
		require.NoError(t, r.Close(ctx))
	}))
}

// A change that can't be stored at once is stored later.
func TestUpdateInAnOutageIsMadeUpFor(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	ctx := within(t, patience)
	r := registered(t, o.c, "cart", "a")
	o.begin()
	// Without a deadline, so that a request has one: what reads goes on until then.
	require.True(t, etcd.IsRetryable(r.Drain(t.Context())))
	o.proxy.Heal()
	require.Eventually(t, func() bool {
		found, err := discovery.Instances(ctx, o.direct, "cart")
		return err == nil && found[0].Draining
	}, patience, time.Millisecond)
}

func TestBackgroundRegistrationStartsWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	srv := server(t)
	srv.Stop()
	c := client(t, config(srv).WithLazyConnect().WithTimeout(200*time.Millisecond))
	_, err := discovery.Register(t.Context(), c, "cart", discovery.Instance{Address: "x"})
	require.ErrorIs(t, err, etcd.ErrConnectionRefused)
	ctx := within(t, patience)
	r, err := discovery.Register(ctx, c, "cart", discovery.Instance{Address: "x"}, discovery.WithBackground())
	require.NoError(t, err)
	require.Len(t, r.ID(), 26, "a random one")
	isLost(t, r, etcd.ErrConnectionRefused)
	require.NoError(t, srv.Restart())
	require.Eventually(t, func() bool { return r.Status().Registered }, patience, time.Millisecond)
	direct := client(t, config(srv))
	stands(t, direct, r, 0)
	require.NoError(t, r.Close(ctx))
	require.Zero(t, leases(t, direct))
}

// The answer to the put is lost, and so may be that of its removal.
func TestLostAnswersLeaveNoInstanceBehind(t *testing.T) {
	t.Parallel()
	for _, lost := range []int64{1, 2, 3, 4} {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			t.Parallel()
			srv, f := faultyServer(t)
			c, direct := client(t, config(srv)), client(t, config(srv))
			ctx := within(t, patience)
			other := registered(t, c, "cart", "other") // keeps the lease
			s := &script{answer: status.Error(codes.Unavailable, "lost"), times: lost, writesOnly: true}
			_, err := discovery.Register(f.follow(ctx, s), c, "cart", discovery.Instance{ID: "a", Address: "x"})
			require.True(t, etcd.MaybeApplied(err))
			require.Eventually(t, func() bool { return len(ids(t, direct, "cart")) == 1 }, patience, time.Millisecond)
			require.Equal(t, []string{"other"}, ids(t, direct, "cart"))
			stands(t, direct, other, 0)
			require.Zero(t, other.Status().Recoveries)
		})
	}
}

func TestLostAnswerOfAnUpdateIsMadeUpFor(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c := client(t, config(srv))
	ctx := within(t, patience)
	r := registered(t, c, "cart", "a")
	s := &script{answer: status.Error(codes.Unavailable, "lost"), times: 1, writesOnly: true}
	require.True(t, etcd.MaybeApplied(r.Drain(f.follow(ctx, s))))
	require.Eventually(t, func() bool { return r.Status().Cause == nil }, patience, time.Millisecond)
	stands(t, c, r, 0)
	require.NoError(t, r.Close(ctx))
	require.Empty(t, ids(t, c, "cart"))
}

func TestRegistrationOnASessionGoesWithIt(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	s, err := c.NewSession(ctx)
	require.NoError(t, err)
	r := registered(t, c, "cart", "a", discovery.WithSession(s))
	require.Equal(t, s.Lease(), r.Status().Lease)
	require.Equal(t, 1, leases(t, c))
	require.NoError(t, s.Close(ctx))
	<-r.Context().Done()
	require.ErrorIs(t, context.Cause(r.Context()), etcd.ErrClosed)
	require.ErrorIs(t, r.Status().Cause, etcd.ErrClosed)
	require.Empty(t, ids(t, c, "cart"))
	require.NoError(t, r.Close(ctx))
}

func TestRegistrationOutlivesTheLossOfItsSession(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	s, err := c.NewSession(ctx)
	require.NoError(t, err)
	r := registered(t, c, "cart", "a", discovery.WithSession(s))
	before := r.Status()
	require.NoError(t, c.RevokeLease(ctx, s.Lease()))
	stands(t, c, r, before.Revision)
	require.NotEqual(t, s.Lease(), r.Status().Lease)
	require.NoError(t, r.Close(ctx))
	require.Zero(t, leases(t, c))
}

func TestRegistrationIsEncryptedAndLogsNoValue(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, plain := client(t, config(srv).WithEncryption(testKey)), client(t, config(srv))
	ctx := within(t, patience)
	var log lockedBuffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := discovery.Register(ctx, c, "cart", discovery.Instance{ID: "a", Address: secret, Zone: secret}, discovery.WithLogger(logger))
	require.NoError(t, err)
	stored, err := plain.Get(ctx, r.Key())
	require.NoError(t, err)
	require.False(t, bytes.Contains(stored, []byte(secret)))
	found, err := discovery.Instances(ctx, c, "cart")
	require.NoError(t, err)
	require.Equal(t, secret, found[0].Address)
	before := r.Status().Revision
	require.NoError(t, c.RevokeLease(ctx, r.Status().Lease))
	stands(t, c, r, before)
	require.NoError(t, r.Close(ctx))
	require.Contains(t, log.String(), "level=INFO")
	require.Contains(t, log.String(), "level=WARN")
	require.NotContains(t, log.String(), secret)
}

func TestRegisterBehindALostLockWritesNothing(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	l, err := c.NewLock("/lock")
	require.NoError(t, err)
	require.NoError(t, l.Lock(ctx))
	guarded := l.Guard(ctx)
	r, err := discovery.Register(guarded, c, "cart", discovery.Instance{ID: "a", Address: "x"})
	require.NoError(t, err)
	require.NoError(t, second(c.DeletePrefix(ctx, "/lock"))) // takes the claim away
	_, err = discovery.Register(guarded, c, "cart", discovery.Instance{ID: "b", Address: "x"})
	require.ErrorIs(t, err, etcd.ErrLockLost)
	require.ErrorIs(t, r.Drain(guarded), etcd.ErrLockLost)
	before := r.Status().Revision
	require.NoError(t, second(c.Delete(ctx, r.Key())))
	stands(t, c, r, before)
	found, err := discovery.Instances(ctx, c, "cart")
	require.NoError(t, err)
	require.Equal(t, []discovery.Instance{{ID: "a", Address: "x"}}, found, "not drained, and not bound any more")
	_ = l.Unlock(ctx)
}

func TestRoundTripsOfRegistrationsAreAsDocumented(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx := within(t, patience)
	unary := func(f func()) []string {
		var out []string
		for _, method := range o.during(f) {
			if method == "Txn" || method == "LeaseGrant" || method == "LeaseRevoke" {
				out = append(out, method)
			}
		}
		return out
	}
	var first, other *discovery.Registration
	require.Equal(t, []string{"LeaseGrant", "Txn"}, unary(func() { first = registered(t, c, "cart", "a") }))
	require.Equal(t, []string{"Txn"}, unary(func() { other = registered(t, c, "cart", "b") }))
	require.Equal(t, []string{"Txn"}, unary(func() { require.NoError(t, first.Drain(ctx)) }))
	require.Equal(t, []string{"Txn"}, unary(func() { require.NoError(t, first.Close(ctx)) }))
	require.Equal(t, []string{"Txn", "LeaseRevoke"}, unary(func() { require.NoError(t, other.Close(ctx)) }))
}
