package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/etcdtest"
)

// recovering is a service with some instances, and a server that things happen to.
type recovering struct {
	t      *testing.T
	srv    *etcdtest.Server
	direct *etcd.Client
	all    []*discovery.Registration
}

// recover has something happen to the service, and returns how long after its end each instance
// can be found again, put anew. It holds that none is missing at the end.
func (f *recovering) recover(harm func()) []time.Duration {
	f.t.Helper()
	before := map[string]discovery.Status{}
	for _, r := range f.all {
		before[r.Key()] = r.Status()
	}
	harm()
	began := time.Now()
	var took []time.Duration
	require.Eventually(f.t, func() bool {
		list, err := f.direct.Range(f.t.Context(), discovery.DefaultPrefix)
		if err != nil {
			return false
		}
		for _, kv := range list.KVs {
			// After a restore a revision may come again.
			if was, waits := before[kv.Key]; waits && (kv.ModRevision != was.Revision || kv.Lease != was.Lease) {
				took = append(took, time.Since(began))
				delete(before, kv.Key)
			}
		}
		return len(before) == 0
	}, patience, time.Millisecond)
	for _, r := range f.all {
		stands(f.t, f.direct, r, 0)
	}
	require.Len(f.t, ids(f.t, f.direct, "cart"), len(f.all), "none is missing")
	return took
}

// The figures are printed; run it alone for good ones.
func TestRegistrationsRecoverSoonFromEverything(t *testing.T) {
	t.Parallel()
	const instances, rounds = 20, 5
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir), etcdtest.WithFsync())
	f := &recovering{t: t, srv: srv, direct: client(t, config(srv))}
	c := client(t, config(srv))
	backup := copied(t, srv, dir)
	for i := range instances {
		f.all = append(f.all, registered(t, c, "cart", fmt.Sprint(i), discovery.WithTTL(time.Second)))
	}
	ctx := within(t, patience)
	for _, fault := range []struct {
		name string
		harm func()
	}{
		{"lease revoked", func() { require.NoError(t, f.direct.RevokeLease(ctx, f.all[0].Status().Lease)) }},
		{"keys deleted", func() { require.NoError(t, second(f.direct.DeletePrefix(ctx, discovery.DefaultPrefix))) }},
		{"full restart, leases lost", func() {
			srv.Stop()
			for _, r := range f.all {
				isLost(t, r, etcd.ErrLeaseLost)
			}
			require.NoError(t, srv.Restart())
		}},
		{"restored to before", func() {
			for range 2 * instances * rounds { // so that the history can be told from the other one
				require.NoError(t, c.Put(ctx, "/k", nil))
			}
			putBack(t, srv, dir, backup)
		}},
	} {
		var all []time.Duration
		pace := keepPace(t)
		for range rounds {
			all = append(all, f.recover(fault.harm)...)
		}
		slices.Sort(all)
		worst := all[len(all)-1]
		t.Logf("%s: median %v, worst %v, of %d instances in %d rounds", fault.name,
			all[len(all)/2].Round(time.Millisecond/10), worst.Round(time.Millisecond/10), instances, rounds)
		require.Less(t, worst, pace.allow(20*time.Second), fault.name)
	}
}
