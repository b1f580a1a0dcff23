package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// lookalikes are keys of users that are not claims of locks, though they are like one
// in part. Each gets the lease that goes with it.
func lookalikes(t testing.TB, c *etcd.Client, p string) []string {
	t.Helper()
	ctx := within(t, patience)
	id, err := c.Grant(ctx, time.Hour)
	require.NoError(t, err)
	other, err := c.Grant(ctx, time.Hour)
	require.NoError(t, err)
	keys := map[string]etcd.LeaseID{
		p + "no lease\x000123456789abcdef":                  0,
		p + "another lease\x00" + id.String():               other,
		p + "upper\x00" + strings.ToUpper(id.String()):      id,
		p + "separator/" + id.String():                      id,
		p + "shorter\x00" + id.String()[1:]:                 id,
		p + "no lease\x00lead\x00leader":                    0,
		p + "longer\x00" + id.String() + "0":                id,
		p + "\x00" + id.String() + "\x000123456789abcdef/x": id,
	}
	var sorted []string
	for key, lease := range keys {
		opts := []etcd.PutOption{}
		if lease != 0 {
			opts = append(opts, etcd.WithLease(lease))
		}
		require.NoError(t, c.Put(ctx, key, nil, opts...))
		sorted = append(sorted, key)
	}
	slices.Sort(sorted)
	return sorted
}

func TestClaimsOfLocksDoNotShowInLists(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		p, ctx := prefix(t), within(t, patience)
		want := lookalikes(t, c, p)
		for i := range 5 { // among them, before and behind
			require.NoError(t, newLock(t, c, fmt.Sprintf("%s%c/lock", p, 'a'+5*i)).Lock(ctx))
			require.NoError(t, newLock(t, c, strings.ReplaceAll(want[i], "\x00", "!")).Lock(ctx))
		}
		lease, err := c.Grant(ctx, time.Hour)
		require.NoError(t, err)
		for range 2 { // a claim may say whose it is, and say it anew
			require.NoError(t, c.Put(ctx, p+"m/lock\x00"+lease.String(), []byte("an owner"), etcd.WithLease(lease)))
		}
		require.EqualValues(t, len(want)+11, second2(t)(c.Count(ctx, p)), "the server counts them")

		for name, read := range map[string]func(limit int64) ([]string, error){
			"List": func(limit int64) ([]string, error) { return c.List(ctx, p, etcd.WithLimit(limit)) },
			"GetPrefix": func(limit int64) ([]string, error) {
				kvs, err := c.GetPrefix(ctx, p, limit)
				return keysOf(kvs), err
			},
			"Range": func(limit int64) ([]string, error) {
				got, err := c.Range(ctx, p, etcd.WithLimit(limit))
				if err != nil {
					return nil, err
				}
				return keysOf(got.KVs), nil
			},
			"Scan": func(limit int64) ([]string, error) { return keysScanned(ctx, c, p, etcd.WithLimit(limit)) },
			"Scan of keys": func(limit int64) ([]string, error) {
				return keysScanned(ctx, c, p, etcd.WithLimit(limit), etcd.WithKeysOnly())
			},
			"Transact": func(limit int64) (got []string, err error) {
				err = c.Transact(ctx, func(tx *etcd.Tx) error {
					kvs, err := tx.GetPrefix(p)
					got = keysOf(kvs)
					return err
				})
				if limit > 0 {
					got = got[:limit]
				}
				return got, err
			},
		} {
			for _, limit := range []int64{0, 1, 4, int64(len(want))} {
				got, err := read(limit)
				require.NoError(t, err, name)
				n := len(want)
				if limit > 0 {
					n = int(limit)
				}
				require.Equal(t, want[:n], got, "%s, limit %d", name, limit)
			}
		}
		for _, opts := range [][]etcd.ScanOption{{etcd.WithReverse()}, {etcd.WithReverse(), etcd.WithKeysOnly()}} {
			for _, limit := range []int64{0, 3} {
				got, err := keysScanned(ctx, c, p, append(opts, etcd.WithLimit(limit))...)
				require.NoError(t, err)
				slices.Reverse(got)
				require.Equal(t, want[len(want)-len(got):], got)
				require.True(t, limit == 0 && len(got) == len(want) || len(got) == int(limit))
			}
		}
		values, err := c.ListWithValues(ctx, p)
		require.NoError(t, err)
		require.Len(t, values, len(want))
		res, err := c.Txn().Then(etcd.OpGetPrefix(p)).Commit(ctx)
		require.NoError(t, err)
		require.NoError(t, res.Results[0].Err)
		require.Equal(t, want, keysOf(res.Results[0].KVs))
	})
}

func TestClaimsOfLocksAreNoDataOfOthers(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithEncryption(testKey))
	p, ctx := prefix(t), within(t, patience)
	type job struct{ N int }
	jobs := etcd.NewTyped[job](c, p)
	require.NoError(t, jobs.Put(ctx, "a", job{1}))
	require.NoError(t, newLock(t, c, p+"a").Lock(ctx))
	require.NoError(t, newLock(t, c, p).Lock(ctx))
	raw, err := c.Raw().Get(ctx, p+"a\x00", clientv3.WithPrefix())
	require.NoError(t, err)
	require.Len(t, raw.Kvs, 1)
	require.NotEmpty(t, raw.Kvs[0].Value)
	require.NotContains(t, string(raw.Kvs[0].Value), "pid", "the record of a claim is encrypted, and no value")

	rev, err := c.Revision(ctx)
	require.NoError(t, err)
	require.NoError(t, newLock(t, c, p+"b").Lock(ctx))
	require.NoError(t, jobs.Put(ctx, "a", job{1}))
	for ev, err := range jobs.Watch(ctx, etcd.WithRevision(rev+1)) {
		require.NoError(t, err)
		require.Equal(t, 1, ev.Value.N, "not the lock, which came first")
		break
	}
	resp := next(t, c.WatchPrefix(ctx, p, etcd.WithRevision(rev+1)))
	require.NoError(t, resp.Events[0].Err)
	require.Empty(t, resp.Events[0].Kv.Value)

	list, err := jobs.List(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
	status, err := c.EncryptionStatus(ctx, p)
	require.NoError(t, err)
	require.EqualValues(t, 1, status.Total)
	require.Zero(t, status.Plaintext)
	report, err := c.Reencrypt(ctx, p)
	require.NoError(t, err)
	require.EqualValues(t, 1, report.Scanned)
	res, err := c.Txn().If(etcd.Value(p).OfPrefix().NotEqual([]byte("x"))).Commit(ctx)
	require.NoError(t, err)
	require.True(t, res.Succeeded)

	var file bytes.Buffer
	exported, err := c.Export(ctx, &file, p)
	require.NoError(t, err)
	require.EqualValues(t, 1, exported.Keys)
	n, err := c.DeletePrefix(ctx, p)
	require.NoError(t, err)
	require.EqualValues(t, 4, n, "what deletes by prefix deletes them")
	_, err = c.Import(ctx, &file)
	require.NoError(t, err)
	require.NoError(t, newLock(t, c, p+"a").Lock(ctx), "an import brings no claims back")
}

// second2 returns a function that wants no error.
func second2(t testing.TB) func(n int64, err error) int64 {
	return func(n int64, err error) int64 {
		t.Helper()
		require.NoError(t, err)
		return n
	}
}

func keysScanned(ctx context.Context, c *etcd.Client, p string, opts ...etcd.ScanOption) ([]string, error) {
	var keys []string
	var errs []error
	for kv, err := range c.Scan(ctx, p, opts...) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		keys = append(keys, kv.Key)
	}
	return keys, errors.Join(errs...)
}
