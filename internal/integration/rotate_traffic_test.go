package integration

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

const (
	instances = 4
	writers   = 8
)

// fleet is a service of several instances, each with its own ring, that goes on
// working while its values are re-encrypted.
type fleet struct {
	*testing.T
	rings   []*etcd.Keyring
	clients []*etcd.Client

	stop    chan struct{} // ends the writers
	writing sync.WaitGroup

	until    atomic.Int64 // ends the watchers, when they have seen this revision
	seen     [instances]atomic.Int64
	watching sync.WaitGroup
	cancel   context.CancelFunc

	mu     sync.Mutex
	values map[string]string // what is expected in the end
	leases map[string]etcd.LeaseID
	writes int
}

// newFleet returns a fleet of instances with the configuration of cfg and a ring
// of the keys.
func newFleet(t *testing.T, cfg func() *etcd.Config, keys ...*etcd.EncryptionKey) *fleet {
	t.Helper()
	f := &fleet{T: t, stop: make(chan struct{}), values: map[string]string{}, leases: map[string]etcd.LeaseID{}}
	for range instances {
		ring := ringOf(t, keys...)
		f.rings = append(f.rings, ring)
		f.clients = append(f.clients, client(t, cfg().WithKeyring(ring).WithTimeout(busyTimeout)))
	}
	return f
}

// seed stores n keys with what put makes of their values; every other key has a
// lease.
func (f *fleet) seed(n int, put func(kvs map[string]string, lease etcd.LeaseID)) {
	f.Helper()
	const batch = 100
	for from := 0; from < n; from += batch {
		lease := etcd.LeaseID(0)
		if from/batch%2 == 1 {
			var err error
			lease, err = f.clients[0].Grant(f.Context(), time.Hour)
			require.NoError(f, err)
		}
		kvs := map[string]string{}
		for i := from; i < min(from+batch, n); i++ {
			key := fmt.Sprintf("/still/%06d", i)
			kvs[key] = fmt.Sprint("value ", i)
			if lease != 0 {
				f.leases[key] = lease
			}
		}
		put(kvs, lease)
		maps.Copy(f.values, kvs)
	}
}

// begin starts the traffic.
func (f *fleet) begin() {
	f.Helper()
	for i := range writers {
		c := f.clients[i%instances]
		w := &fleetWriter{fleet: f, client: c, prefix: fmt.Sprintf("/moving/%d/", i), values: map[string]string{}}
		lease, err := c.Grant(f.Context(), time.Hour)
		require.NoError(f, err)
		require.NoError(f, w.create(lease))
		f.writing.Go(w.run)
	}
	ctx, cancel := context.WithCancel(f.Context())
	f.cancel = cancel
	f.until.Store(1 << 62)
	for i, c := range f.clients {
		var opts []etcd.WatchOption
		if i%2 == 1 {
			opts = append(opts, etcd.WithPrevKV())
		}
		watch := c.WatchPrefix(ctx, "/", opts...)
		f.watching.Go(func() { f.watch(i, watch) })
	}
}

// fleetWriter writes numbers under keys of its own. Nobody else writes them, so
// that what it was told to be stored has to be there.
type fleetWriter struct {
	*fleet
	client *etcd.Client
	prefix string
	values map[string]string
	n      int
}

// create stores the first values: of a key with a lease, and one without.
func (w *fleetWriter) create(lease etcd.LeaseID) error {
	w.leases[w.prefix+"leased"] = lease
	w.values[w.prefix+"leased"], w.values[w.prefix+"free"] = "0", "0"
	if err := w.client.Put(w.Context(), w.prefix+"leased", []byte("0"), etcd.WithLease(lease)); err != nil {
		return err
	}
	return w.client.Put(w.Context(), w.prefix+"free", []byte("0"))
}

func (w *fleetWriter) run() {
	ctx := context.WithoutCancel(w.Context())
	for {
		select {
		case <-w.stop:
			w.mu.Lock()
			defer w.mu.Unlock()
			maps.Copy(w.fleet.values, w.values)
			w.writes += w.n
			return
		default:
		}
		w.n++
		if !assert.NoError(w.T, w.write(ctx)) || !assert.NoError(w.T, w.read(ctx)) {
			return
		}
	}
}

// write makes one change, each time in another way.
func (w *fleetWriter) write(ctx context.Context) error {
	value, leased, free := strconv.Itoa(w.n), w.prefix+"leased", w.prefix+"free"
	switch w.n % 5 {
	case 0:
		w.values[free] = value
		return w.client.Put(ctx, free, []byte(value))
	case 1:
		w.values[leased] = value
		return w.client.Put(ctx, leased, []byte(value), etcd.WithIgnoreLease())
	case 2:
		old := w.values[leased]
		w.values[leased] = value
		return w.client.Update(ctx, leased, func(stored []byte) ([]byte, error) {
			if string(stored) != old {
				return nil, fmt.Errorf("%s is %q and was left at %q", leased, stored, old)
			}
			return []byte(value), nil
		})
	case 3:
		old := w.values[free]
		w.values[free] = value
		return done(w.client.CompareAndSwap(ctx, free, []byte(old), []byte(value)))
	default:
		passing := w.prefix + "passing"
		if _, there := w.values[passing]; there {
			delete(w.values, passing)
			_, err := w.client.Delete(ctx, passing)
			return err
		}
		w.values[passing] = value
		return w.client.Put(ctx, passing, []byte(value))
	}
}

// read reads what the writer wrote, and one of the keys that nobody writes.
func (w *fleetWriter) read(ctx context.Context) error {
	still := fmt.Sprintf("/still/%06d", w.n*7919%*rotationKeys)
	got, err := w.client.BulkGet(ctx, []string{w.prefix + "leased", w.prefix + "free", still})
	if err != nil {
		return err
	}
	for _, key := range []string{w.prefix + "leased", w.prefix + "free"} {
		if string(got[key]) != w.values[key] {
			return fmt.Errorf("%s is %q and was left at %q", key, got[key], w.values[key])
		}
	}
	if want := fmt.Sprint("value ", w.n*7919%*rotationKeys); string(got[still]) != want {
		return fmt.Errorf("%s is %q instead of %q", still, got[still], want)
	}
	return nil
}

// watch follows all changes: each decodes, none goes back.
func (f *fleet) watch(i int, watch etcd.WatchChan) {
	last := map[string]int{}
	for f.seen[i].Load() < f.until.Load() {
		r, ok := <-watch
		if !assert.True(f.T, ok) || !assert.NoError(f.T, r.Err()) {
			return
		}
		for _, ev := range r.Events {
			if !assert.NoError(f.T, ev.Err) {
				return
			}
			if ev.Type == etcd.EventDelete || !strings.HasPrefix(ev.Kv.Key, "/moving/") {
				continue
			}
			n, err := strconv.Atoi(string(ev.Kv.Value))
			if !assert.NoError(f.T, err) || !assert.GreaterOrEqual(f.T, n, last[ev.Kv.Key]) {
				return
			}
			last[ev.Kv.Key] = n
		}
		f.seen[i].Store(r.Revision)
	}
}

// turn replaces the keys of every instance, one after the other.
func (f *fleet) turn(keys ...*etcd.EncryptionKey) {
	f.Helper()
	for _, ring := range f.rings {
		require.NoError(f, ring.Replace(keys[0], keys[1:]...))
	}
}

// rewrite re-encrypts until nothing is left to do, as the runbook has it, and
// returns the revision of the proof.
func (f *fleet) rewrite(now *etcd.EncryptionKey) int64 {
	f.Helper()
	began, total := time.Now(), etcd.ReencryptReport{}
	for {
		report, err := f.clients[0].Reencrypt(f.Context(), "")
		require.NoError(f, err)
		require.Empty(f, report.Errors)
		total.Rewritten += report.Rewritten
		total.Conflicts += report.Conflicts
		if report.Stale == 0 && report.Conflicts == 0 {
			break
		}
	}
	f.Logf("%d keys re-encrypted under traffic, %d conflicts, %.0f keys/s", total.Rewritten, total.Conflicts,
		float64(total.Rewritten)/time.Since(began).Seconds())
	require.GreaterOrEqual(f, total.Rewritten, int64(*rotationKeys))
	status, err := f.clients[0].EncryptionStatus(f.Context(), "")
	require.NoError(f, err)
	require.Equal(f, map[etcd.KeyID]int64{now.ID(): status.Total}, status.ByKey)
	return status.Revision
}

// catchUp waits until no watcher reads from before a revision.
func (f *fleet) catchUp(revision int64) {
	f.Helper()
	for i := range f.seen {
		require.Eventually(f, func() bool { return f.seen[i].Load() >= revision || f.Failed() }, busyTimeout, time.Millisecond)
	}
}

// end stops the traffic and holds that nothing was lost or changed.
func (f *fleet) end(strict *etcd.Client, now *etcd.EncryptionKey) {
	f.Helper()
	close(f.stop)
	f.writing.Wait()
	f.until.Store(revisionOf(f.T, strict) + 1)
	require.NoError(f, strict.Put(f.Context(), "/end", nil))
	f.values["/end"] = ""
	f.watching.Wait()
	f.cancel()
	f.Logf("%d writes of %d writers meanwhile", f.writes, writers)

	kvs, err := strict.GetPrefix(f.Context(), "", 0)
	require.NoError(f, err)
	values, leases, attached := map[string]string{}, map[string]etcd.LeaseID{}, map[etcd.LeaseID]int{}
	for _, kv := range kvs {
		values[kv.Key] = string(kv.Value)
		if kv.Lease != 0 {
			leases[kv.Key] = kv.Lease
			attached[kv.Lease]++
		}
	}
	require.Equal(f, f.values, values)
	require.Equal(f, f.leases, leases)
	for lease, n := range attached {
		resp, err := strict.Raw().TimeToLive(f.Context(), clientv3.LeaseID(lease), clientv3.WithAttachedKeys())
		require.NoError(f, err)
		require.Len(f, resp.Keys, n)
	}
	status, err := strict.EncryptionStatus(f.Context(), "")
	require.NoError(f, err)
	total := int64(len(f.values))
	require.Equal(f, etcd.EncryptionStatus{Revision: status.Revision, Total: total, ByKey: map[etcd.KeyID]int64{now.ID(): total}, BySuite: inDefaultSuite(total)}, status)
}

func TestRotationUnderTrafficLosesNothing(t *testing.T) {
	t.Parallel()
	srv := server(t)
	a, b := keyNumber(t, 1), keyNumber(t, 2)
	f := newFleet(t, func() *etcd.Config { return config(srv) }, a)
	f.seed(*rotationKeys, func(kvs map[string]string, lease etcd.LeaseID) {
		values := map[string][]byte{}
		for key, value := range kvs {
			values[key] = []byte(value)
		}
		require.NoError(t, f.clients[0].BulkPut(t.Context(), values, etcd.WithLease(lease)))
	})
	f.begin()
	f.turn(a, b) // distribute
	f.turn(b, a) // promote
	f.catchUp(f.rewrite(b))
	f.turn(b) // retire
	f.end(client(t, config(srv).WithKeyring(ringOf(t, b)).WithTimeout(busyTimeout)), b)
}

// The values are there before encryption is: as plaintext, or as the Blueprint
// provider wrote them.
func TestMigrationUnderTrafficLosesNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stored func(value string) string
		policy func(*etcd.Config) *etcd.Config
	}{
		"from plaintext": {
			func(value string) string { return value },
			func(c *etcd.Config) *etcd.Config { return c.WithPlaintextReads("") },
		},
		"from Blueprint values": {legacyValue, func(c *etcd.Config) *etcd.Config { return c.WithLegacyKey(legacyKey, "") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, key := server(t), keyNumber(t, 1)
			f := newFleet(t, func() *etcd.Config { return tc.policy(config(srv)) }, key)
			f.seed(*rotationKeys, func(kvs map[string]string, lease etcd.LeaseID) {
				var ops []clientv3.Op
				for k, value := range kvs {
					ops = append(ops, clientv3.OpPut(k, tc.stored(value), clientv3.WithLease(clientv3.LeaseID(lease))))
				}
				_, err := f.clients[0].Raw().Txn(t.Context()).Then(ops...).Commit()
				require.NoError(t, err)
			})
			f.begin()
			f.catchUp(f.rewrite(key))
			f.end(client(t, config(srv).WithKeyring(ringOf(t, key)).WithTimeout(busyTimeout)), key)
		})
	}
}
