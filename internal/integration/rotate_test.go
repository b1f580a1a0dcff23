package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

func TestReencryptMovesEverythingToThePrimaryKey(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	ctx := t.Context()
	r.seed(300)
	for key, stored := range map[string]string{
		"/plain": "plaintext", "/plain empty": "", "/magic": magic + "\x01\x00\x00\x00" + magic + "!", "/legacy": legacyValue("of the provider"),
	} {
		plant(t, r.now, key, stored)
	}
	maps.Copy(r.want, map[string]string{"/plain": "plaintext", "/plain empty": "", "/magic": magic + "!", "/legacy": "of the provider"})
	require.NoError(t, client(t, config(r.srv).WithCompression(1024)).Put(ctx, "/compressed", []byte(large)))
	require.NoError(t, r.now.Put(ctx, "/done", []byte("done")))
	r.want["/compressed"], r.want["/done"] = large, "done"

	before, err := r.now.EncryptionStatus(ctx, "")
	require.NoError(t, err)
	require.Equal(t, etcd.EncryptionStatus{
		Revision: before.Revision, Total: 306, Legacy: 1, Plaintext: 4,
		ByKey: map[etcd.KeyID]int64{r.a.ID(): 300, r.b.ID(): 1}, BySuite: inDefaultSuite(301),
	}, before)
	under, err := r.now.EncryptionStatus(ctx, "/plain")
	require.NoError(t, err)
	require.Equal(t, int64(2), under.Total)

	report, err := r.now.Reencrypt(ctx, "/s/00")
	require.NoError(t, err)
	require.Equal(t, etcd.ReencryptReport{Scanned: 300, Stale: 300, Rewritten: 300}, report)
	report, err = r.now.Reencrypt(ctx, "")
	require.NoError(t, err)
	require.Equal(t, etcd.ReencryptReport{Scanned: 306, Stale: 5, Rewritten: 5}, report)
	r.requireDone()
}

func TestReencryptWorksUnderItsNamespaceAlone(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	in := r.reader(func(c *etcd.Config) { c.WithNamespace("space/") })
	require.NoError(t, client(t, config(r.srv).WithKeyring(ringOf(t, r.a)).WithNamespace("space/")).Put(t.Context(), "k", []byte("v")))
	for _, outside := range []string{"k", "spac", "space0"} {
		require.NoError(t, r.old.Put(t.Context(), outside, []byte("v")))
	}
	report, err := in.Reencrypt(t.Context(), "", etcd.WithResumeAt("a"))
	require.NoError(t, err)
	require.Equal(t, etcd.ReencryptReport{Scanned: 1, Stale: 1, Rewritten: 1}, report)
	status, err := in.EncryptionStatus(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, map[etcd.KeyID]int64{r.b.ID(): 1}, status.ByKey)
	status, err = r.now.EncryptionStatus(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, map[etcd.KeyID]int64{r.a.ID(): 3, r.b.ID(): 1}, status.ByKey)
}

func TestReencryptReportsAndLeavesWhatDoesNotDecode(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	ctx := t.Context()
	r.seed(150)
	stranger := client(t, config(r.srv).WithKeyring(ringOf(t, keyNumber(t, 3))))
	bad := map[string]string{}
	for i := range 120 {
		key := fmt.Sprintf("/s/%05d!", i)
		require.NoError(t, stranger.Put(ctx, key, []byte("v")))
		bad[key] = storedBytes(t, r.now, key)
	}
	damaged := flip(storedBytes(t, r.now, "/s/00000"), 60)
	plant(t, r.now, "/s/00000", damaged)
	plant(t, r.now, "/s/cut", magic)
	bad["/s/00000"], bad["/s/cut"] = damaged, magic
	delete(r.want, "/s/00000")

	report, err := r.now.Reencrypt(ctx, "/s/")
	require.NoError(t, err)
	require.Len(t, report.Errors, 100)
	requireUndecodable(t, report.Errors[0], "/s/00000", etcd.ErrDecrypt, "first")
	requireUndecodable(t, report.Errors[1], "/s/00000!", etcd.ErrUnknownKey, "second")
	report.Errors = nil
	require.Equal(t, etcd.ReencryptReport{Scanned: 271, Stale: 271, Rewritten: 149, Undecodable: 122}, report)
	for key, stored := range bad {
		require.Equal(t, stored, storedBytes(t, r.now, key))
	}
	status, err := r.now.EncryptionStatus(ctx, "/s/")
	require.NoError(t, err)
	require.Equal(t, etcd.EncryptionStatus{
		Revision: status.Revision, Total: 271, Unreadable: 1,
		ByKey: map[etcd.KeyID]int64{r.a.ID(): 1, r.b.ID(): 149, keyNumber(t, 3).ID(): 120}, BySuite: inDefaultSuite(270),
	}, status)
	for key := range bad {
		_, err := r.now.Delete(ctx, key)
		require.NoError(t, err)
	}
	r.requireDone()
}

func TestReencryptLeavesIntendedPlaintextAlone(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	c := r.reader(func(c *etcd.Config) { c.WithUnencryptedPrefixes("/plain/").WithPlaintextWrites("/migrating/") })
	for _, key := range []string{"/plain/k", "/migrating/k", "/other/k"} {
		plant(t, c, key, "plaintext")
	}
	report, err := c.Reencrypt(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, etcd.ReencryptReport{Scanned: 3, Stale: 1, Rewritten: 1}, report)
	status, err := c.EncryptionStatus(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, etcd.EncryptionStatus{
		Revision: status.Revision, Total: 3, Plaintext: 1, Unencrypted: 1, ByKey: map[etcd.KeyID]int64{r.b.ID(): 1}, BySuite: inDefaultSuite(1),
	}, status)
}

func TestDryRunCountsAndWritesNothing(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.seed(300)
	plant(t, r.now, "/s/bad", magic)
	before := revisionOf(t, r.now)
	var methods []string
	var report etcd.ReencryptReport
	var err error
	methods = r.seen.during(func() { report, err = r.now.Reencrypt(t.Context(), "", etcd.WithDryRun(), etcd.WithKeysPerSecond(1)) })
	require.NoError(t, err)
	require.Len(t, report.Errors, 1)
	report.Errors = nil
	require.Equal(t, etcd.ReencryptReport{Scanned: 301, Stale: 301, Rewritten: 300, Undecodable: 1}, report)
	require.Equal(t, []string{"Range"}, slices.Compact(methods))
	require.Equal(t, before, revisionOf(t, r.now))
}

// Another client changes keys between the read and the commit: what it wrote
// stands, and what it deleted stays deleted.
func TestReencryptLosesToEveryConcurrentChange(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.seed(10)
	ctx := t.Context()
	lease, err := r.old.Grant(ctx, time.Hour)
	require.NoError(t, err)
	var once atomic.Bool
	r.seen.around(func(req any) {
		if txn, ok := req.(*pb.TxnRequest); !ok || !writes(txn) || once.Swap(true) {
			return
		}
		assert.NoError(t, r.old.Put(ctx, "/s/00001", []byte("changed with the old key")))
		assert.NoError(t, r.now.Put(ctx, "/s/00002", []byte("changed with the new key"), etcd.WithLease(lease)))
		_, err := r.now.Delete(ctx, "/s/00003")
		assert.NoError(t, err)
		_, err = r.now.Delete(ctx, "/s/00004")
		assert.NoError(t, err)
		assert.NoError(t, r.old.Put(ctx, "/s/00004", []byte("value 4"), etcd.WithLease(lease))) // the same again
		assert.NoError(t, r.old.MoveKey(ctx, "/s/00005", "/s/00005 moved"))
	}, nil)
	report, err := r.now.Reencrypt(ctx, "")
	require.NoError(t, err)
	require.Equal(t, etcd.ReencryptReport{Scanned: 10, Stale: 10, Rewritten: 5, Conflicts: 5}, report)
	r.want["/s/00001"], r.want["/s/00002"], r.want["/s/00005 moved"] = "changed with the old key", "changed with the new key", "value 5"
	delete(r.want, "/s/00003")
	delete(r.want, "/s/00005")

	report, err = r.now.Reencrypt(ctx, "")
	require.NoError(t, err)
	require.Equal(t, etcd.ReencryptReport{Scanned: 9, Stale: 3, Rewritten: 3}, report)
	r.requireDone()
	for key, want := range map[string]etcd.LeaseID{"/s/00002": lease, "/s/00004": lease, "/s/00001": 0} {
		kv, err := r.now.GetKV(ctx, key)
		require.NoError(t, err)
		require.Equal(t, want, kv.Lease, key)
	}
}

func TestReencryptChangesNothingButTheSealing(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.seed(100)
	ctx := t.Context()
	leased := map[etcd.LeaseID][]string{}
	for i := range 3 {
		lease, err := r.old.Grant(ctx, time.Hour)
		require.NoError(t, err)
		for j := range 50 {
			key := fmt.Sprintf("/s/%05d leased", 3*j+i)
			require.NoError(t, r.old.Put(ctx, key, []byte("leased"), etcd.WithLease(lease)))
			r.want[key] = "leased"
			leased[lease] = append(leased[lease], key)
		}
	}
	before, err := r.now.GetPrefix(ctx, "/s/", 0)
	require.NoError(t, err)
	report, err := r.now.Reencrypt(ctx, "/s/")
	require.NoError(t, err)
	require.Equal(t, int64(250), report.Rewritten)
	after, err := r.now.GetPrefix(ctx, "/s/", 0)
	require.NoError(t, err)
	for i, kv := range after {
		require.Equal(t, before[i].Version+1, kv.Version)
		require.Greater(t, kv.ModRevision, before[i].ModRevision)
		kv.Version, kv.ModRevision = before[i].Version, before[i].ModRevision
		require.Equal(t, before[i], kv)
	}
	for lease, keys := range leased {
		resp, err := r.now.Raw().TimeToLive(ctx, clientv3.LeaseID(lease), clientv3.WithAttachedKeys())
		require.NoError(t, err)
		var got []string
		for _, key := range resp.Keys {
			got = append(got, string(key))
		}
		require.ElementsMatch(t, keys, got)
	}
	r.requireDone()
	for lease, keys := range leased {
		require.NoError(t, r.now.RevokeLease(ctx, lease))
		for _, key := range keys {
			delete(r.want, key)
		}
	}
	r.requireDone()
}

func TestReencryptRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.seed(1)
	reads, err := etcd.NewKeyring(nil, r.a)
	require.NoError(t, err)
	closed := r.reader(func(*etcd.Config) {})
	require.NoError(t, closed.Close())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, row := range map[string]struct {
		client *etcd.Client
		ctx    context.Context
		prefix string
		opt    etcd.ReencryptOption
		want   error
	}{
		"without encryption":      {client(t, config(r.srv)), t.Context(), "", nil, etcd.ErrInvalidArgument},
		"without a primary key":   {client(t, config(r.srv).WithKeyring(reads)), t.Context(), "", nil, etcd.ErrNoPrimaryKey},
		"negative rate":           {r.now, t.Context(), "", etcd.WithKeysPerSecond(-1), etcd.ErrInvalidArgument},
		"resume before prefix":    {r.now, t.Context(), "/s/", etcd.WithResumeAt("/r/"), etcd.ErrInvalidArgument},
		"resume behind prefix":    {r.now, t.Context(), "/s/", etcd.WithResumeAt("/t/"), etcd.ErrInvalidArgument},
		"prefix longer than keys": {r.now, t.Context(), strings.Repeat("k", 1<<17), nil, etcd.ErrTooLarge},
		"nil context":             {r.now, nil, "", nil, etcd.ErrNilContext},
		"closed client":           {closed, t.Context(), "", nil, etcd.ErrClosed},
		"ended context":           {r.now, ended, "", nil, context.Canceled},
	} {
		var opts []etcd.ReencryptOption
		if row.opt != nil {
			opts = append(opts, row.opt)
		}
		report, err := row.client.Reencrypt(row.ctx, row.prefix, opts...)
		require.ErrorIs(t, err, row.want, name)
		require.Zero(t, report, name)
	}
	_, err = r.now.EncryptionStatus(t.Context(), strings.Repeat("k", 1<<17))
	require.ErrorIs(t, err, etcd.ErrTooLarge)
	report, err := r.now.Reencrypt(t.Context(), "/none/")
	require.NoError(t, err)
	require.Zero(t, report)
}
