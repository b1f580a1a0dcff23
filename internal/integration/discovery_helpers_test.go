package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
)

// registered registers an instance for one test.
func registered(t testing.TB, c *etcd.Client, service, id string, opts ...discovery.RegisterOption) *discovery.Registration {
	t.Helper()
	r, err := discovery.Register(within(t, patience), c, service, discovery.Instance{ID: id, Address: "addr-" + id}, opts...)
	require.NoError(t, err)
	require.True(t, r.Status().Registered)
	return r
}

// stands waits until a registration stands under a key that is attached to a lease that lives,
// and was put after a revision.
func stands(t testing.TB, c *etcd.Client, r *discovery.Registration, after int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		s := r.Status()
		if !s.Registered || s.Revision <= after {
			return false
		}
		kv, err := c.GetKV(t.Context(), r.Key())
		return err == nil && kv.ModRevision == s.Revision && kv.Lease == s.Lease && s.Lease != 0
	}, patience, time.Millisecond, "%v", r.Status())
}

// isLost waits until a registration says that it is lost for a reason.
func isLost(t testing.TB, r *discovery.Registration, why error) {
	t.Helper()
	for s := range r.StatusChanges(within(t, patience)) {
		if !s.Registered && errorIs(s.Cause, why) {
			return
		}
	}
	require.Fail(t, "not lost", "%v", r.Status())
}

func errorIs(err, want error) bool { return etcdAny(err, want) }

// ids returns the ids of the instances of a service that are registered.
func ids(t testing.TB, c *etcd.Client, service string, opts ...discovery.LookupOption) []string {
	t.Helper()
	found, err := discovery.Instances(within(t, patience), c, service, opts...)
	if etcdAny(err, discovery.ErrUnknownService) {
		return nil
	}
	require.NoError(t, err)
	return idsOf(found)
}

func idsOf(instances []discovery.Instance) []string {
	var out []string
	for _, i := range instances {
		out = append(out, i.ID)
	}
	return out
}

// watched is a state of a service, as a loop over it gets it.
type watched struct {
	discovery.Service
	err error
}

// statesOf collects the states of a service until a test wants no more of them.
func statesOf(ctx context.Context, c *etcd.Client, service string, opts ...discovery.LookupOption) <-chan watched {
	out := make(chan watched)
	go func() {
		defer close(out)
		for s, err := range discovery.Watch(ctx, c, service, opts...) {
			select {
			case out <- watched{s, err}:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// stateWith waits for a state with exactly these ids.
func stateWith(t testing.TB, states <-chan watched, ids ...string) watched {
	t.Helper()
	for {
		s := next(t, states)
		if got := idsOf(s.Instances); len(got) == len(ids) && (len(ids) == 0 || subset(got, ids)) {
			return s
		}
	}
}

func subset(some, all []string) bool {
	known := map[string]bool{}
	for _, one := range all {
		known[one] = true
	}
	for _, one := range some {
		if !known[one] {
			return false
		}
	}
	return true
}
