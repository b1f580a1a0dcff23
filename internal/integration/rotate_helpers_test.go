package integration

import (
	"flag"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// rotation is a server on which everything is to be moved from key a to key b.
type rotation struct {
	*testing.T
	srv  *etcdtest.Server
	seen *observer
	a, b *etcd.EncryptionKey
	// old writes with a; now has b as primary and reads all that there is.
	old, now *etcd.Client
	want     map[string]string
}

func newRotation(t *testing.T, opts ...etcdtest.Option) *rotation {
	t.Helper()
	r := &rotation{T: t, a: keyNumber(t, 1), b: keyNumber(t, 2), want: map[string]string{}}
	r.srv, r.seen = observedServer(t, opts...)
	r.old = client(t, config(r.srv).WithKeyring(ringOf(t, r.a)).WithTimeout(busyTimeout))
	r.now = r.reader(func(*etcd.Config) {})
	return r
}

func (r *rotation) reader(change func(*etcd.Config)) *etcd.Client {
	r.Helper()
	cfg := config(r.srv).WithKeyring(ringOf(r.T, r.b, r.a)).WithLegacyKey(legacyKey, "").WithPlaintextReads("").WithTimeout(busyTimeout)
	change(cfg)
	return client(r.T, cfg)
}

// seed stores n values of key a under /s/.
func (r *rotation) seed(n int) {
	r.Helper()
	kvs := map[string][]byte{}
	for i := range n {
		key, value := fmt.Sprintf("/s/%05d", i), fmt.Sprint("value ", i)
		r.want[key], kvs[key] = value, []byte(value)
	}
	require.NoError(r, r.old.BulkPut(r.Context(), kvs))
}

// strict is a client of the new key alone.
func (r *rotation) strict() *etcd.Client {
	r.Helper()
	return client(r.T, config(r.srv).WithKeyring(ringOf(r.T, r.b)).WithTimeout(busyTimeout))
}

// requireDone holds that everything is there, under the new key.
func (r *rotation) requireDone() {
	r.Helper()
	got, err := r.strict().ListWithValues(r.Context(), "")
	require.NoError(r, err)
	values := map[string]string{}
	for key, value := range got {
		values[key] = string(value)
	}
	require.Equal(r, r.want, values)
	status, err := r.now.EncryptionStatus(r.Context(), "")
	require.NoError(r, err)
	total := int64(len(r.want))
	require.Equal(r, etcd.EncryptionStatus{
		Revision: status.Revision, Total: total, ByKey: map[etcd.KeyID]int64{r.b.ID(): total}, BySuite: inDefaultSuite(total),
	}, status)
	report, err := r.now.Reencrypt(r.Context(), "")
	require.NoError(r, err)
	require.Equal(r, etcd.ReencryptReport{Scanned: total}, report, "nothing is left to do")
}

// batches returns how many keys each transaction of a run rewrites.
func (r *rotation) batches(run func()) []int {
	r.Helper()
	var sizes []int
	r.seen.around(func(req any) {
		if txn, ok := req.(*pb.TxnRequest); ok && writes(txn) {
			sizes = append(sizes, len(txn.Success))
		}
	}, nil)
	defer r.seen.around(nil, nil)
	run()
	return sizes
}

// rotationKeys is how many keys the tests and benchmarks of rotation move.
var rotationKeys = flag.Int("rotation.keys", 2000, "how many keys to re-encrypt")
