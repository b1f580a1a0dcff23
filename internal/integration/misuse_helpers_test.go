package integration

import (
	"context"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// calls are all methods of a client that can fail, by name, with arguments that
// are in order.
var calls = map[string]func(ctx context.Context, c *etcd.Client) error{
	"BulkDelete": func(ctx context.Context, c *etcd.Client) error { return second(c.BulkDelete(ctx, []string{"k"})) },
	"BulkGet":    func(ctx context.Context, c *etcd.Client) error { return second(c.BulkGet(ctx, []string{"k"})) },
	"BulkLoad": func(ctx context.Context, c *etcd.Client) error {
		return second(c.BulkLoad(ctx, maps.All(map[string][]byte{"k": nil})))
	},
	"BulkPut": func(ctx context.Context, c *etcd.Client) error {
		return c.BulkPut(ctx, map[string][]byte{"k": nil})
	},
	"CompareAndDelete": func(ctx context.Context, c *etcd.Client) error {
		return second(c.CompareAndDelete(ctx, "k", nil))
	},
	"CompareAndDeleteRevision": func(ctx context.Context, c *etcd.Client) error {
		return second(c.CompareAndDeleteRevision(ctx, "k", 1))
	},
	"CompareAndSwap": func(ctx context.Context, c *etcd.Client) error {
		return second(c.CompareAndSwap(ctx, "k", nil, nil))
	},
	"CompareAndSwapRevision": func(ctx context.Context, c *etcd.Client) error {
		return second(c.CompareAndSwapRevision(ctx, "k", 1, nil))
	},
	"CopyKey":          func(ctx context.Context, c *etcd.Client) error { return c.CopyKey(ctx, "a", "b") },
	"Count":            func(ctx context.Context, c *etcd.Client) error { return second(c.Count(ctx, "k")) },
	"Delete":           func(ctx context.Context, c *etcd.Client) error { return second(c.Delete(ctx, "k")) },
	"DeletePrefix":     func(ctx context.Context, c *etcd.Client) error { return second(c.DeletePrefix(ctx, "k")) },
	"EncryptionStatus": func(ctx context.Context, c *etcd.Client) error { return second(c.EncryptionStatus(ctx, "k")) },
	"Events": func(ctx context.Context, c *etcd.Client) (last error) {
		for _, err := range c.Events(ctx, "k") {
			last = err
		}
		return last
	},
	"Exists":           func(ctx context.Context, c *etcd.Client) error { return second(c.Exists(ctx, "k")) },
	"Get":              func(ctx context.Context, c *etcd.Client) error { return second(c.Get(ctx, "k")) },
	"Export":           func(ctx context.Context, c *etcd.Client) error { return second(c.Export(ctx, io.Discard, "k")) },
	"GetKV":            func(ctx context.Context, c *etcd.Client) error { return second(c.GetKV(ctx, "k")) },
	"GetKeysByPattern": func(ctx context.Context, c *etcd.Client) error { return second(c.GetKeysByPattern(ctx, "k*")) },
	"GetPrefix": func(ctx context.Context, c *etcd.Client) error {
		return second(c.GetPrefix(ctx, "k", 1))
	},
	"GetMultiple": func(ctx context.Context, c *etcd.Client) error { return second(c.GetMultiple(ctx, []string{"k"})) },
	"GetRange":    func(ctx context.Context, c *etcd.Client) error { return second(c.GetRange(ctx, "a", "b")) },
	"GetWithRevision": func(ctx context.Context, c *etcd.Client) error {
		_, _, err := c.GetWithRevision(ctx, "k")
		return err
	},
	"Grant": func(ctx context.Context, c *etcd.Client) error { return second(c.Grant(ctx, time.Minute)) },
	"Import": func(ctx context.Context, c *etcd.Client) error {
		return second(c.Import(ctx, strings.NewReader(noKeys)))
	},
	"KeepAlive":     func(ctx context.Context, c *etcd.Client) error { return second(c.KeepAlive(ctx, 1)) },
	"KeepAliveOnce": func(ctx context.Context, c *etcd.Client) error { return second(c.KeepAliveOnce(ctx, 1)) },
	"Lead": func(ctx context.Context, c *etcd.Client) error {
		return c.Lead(ctx, "e", nil, func(context.Context) error { return nil })
	},
	"Lease":          func(_ context.Context, c *etcd.Client) error { return second(c.Lease(60)) },
	"List":           func(ctx context.Context, c *etcd.Client) error { return second(c.List(ctx, "k")) },
	"ListWithValues": func(ctx context.Context, c *etcd.Client) error { return second(c.ListWithValues(ctx, "k")) },
	"MoveKey":        func(ctx context.Context, c *etcd.Client) error { return c.MoveKey(ctx, "a", "b") },
	"NewElection":    func(_ context.Context, c *etcd.Client) error { return second(c.NewElection("e")) },
	"NewLock":        func(_ context.Context, c *etcd.Client) error { return second(c.NewLock("l")) },
	"NewRWLock":      func(_ context.Context, c *etcd.Client) error { return second(c.NewRWLock("l")) },
	"NewSemaphore":   func(_ context.Context, c *etcd.Client) error { return second(c.NewSemaphore("s", 1)) },
	"NewSession":     func(ctx context.Context, c *etcd.Client) error { return second(c.NewSession(ctx)) },
	"Put":            func(ctx context.Context, c *etcd.Client) error { return c.Put(ctx, "k", nil) },
	"PutIfChanged":   func(ctx context.Context, c *etcd.Client) error { return second(c.PutIfChanged(ctx, "k", nil)) },
	"PutIfNotExists": func(ctx context.Context, c *etcd.Client) error { return second(c.PutIfNotExists(ctx, "k", nil)) },
	"PutWithLease":   func(ctx context.Context, c *etcd.Client) error { return c.PutWithLease(ctx, "k", nil, 1) },
	"PutWithTTL": func(ctx context.Context, c *etcd.Client) error {
		return second(c.PutWithTTL(ctx, "k", nil, time.Minute))
	},
	"Range":           func(ctx context.Context, c *etcd.Client) error { return second(c.Range(ctx, "k")) },
	"RequestProgress": func(ctx context.Context, c *etcd.Client) error { return c.RequestProgress(ctx, 1) },
	"Revision":        func(ctx context.Context, c *etcd.Client) error { return second(c.Revision(ctx)) },
	"Reencrypt":       func(ctx context.Context, c *etcd.Client) error { return second(c.Reencrypt(ctx, "k")) },
	"RevokeLease":     func(ctx context.Context, c *etcd.Client) error { return c.RevokeLease(ctx, 1) },
	"Seal":            func(ctx context.Context, c *etcd.Client) error { return second(c.Seal(ctx, "k", nil)) },
	"Settle":          func(ctx context.Context, c *etcd.Client) error { return second(c.Settle(ctx, nil)) },
	"TimeToLive":      func(ctx context.Context, c *etcd.Client) error { return second(c.TimeToLive(ctx, 1)) },
	"Scan": func(ctx context.Context, c *etcd.Client) error {
		for _, err := range c.Scan(ctx, "k") {
			return err
		}
		return nil
	},
	"Transact": func(ctx context.Context, c *etcd.Client) error {
		return c.Transact(ctx, func(*etcd.Tx) error { return nil })
	},
	"Txn": func(ctx context.Context, c *etcd.Client) error {
		return second(c.Txn().If(etcd.Value("k").Equal(nil)).Then(etcd.OpDelete("k")).Commit(ctx))
	},
	"Unseal": func(ctx context.Context, c *etcd.Client) error { return second(c.Unseal(ctx, "k", nil)) },
	"Update": func(ctx context.Context, c *etcd.Client) error {
		return c.Update(ctx, "k", func([]byte) ([]byte, error) { return nil, nil })
	},
	"Watch":       func(ctx context.Context, c *etcd.Client) error { return lastOf(c.Watch(ctx, "k")) },
	"WatchRange":  func(ctx context.Context, c *etcd.Client) error { return lastOf(c.WatchRange(ctx, "k", "l")) },
	"WatchPrefix": func(ctx context.Context, c *etcd.Client) error { return lastOf(c.WatchPrefix(ctx, "k")) },
	"WithLock": func(ctx context.Context, c *etcd.Client) error {
		return c.WithLock(ctx, "l", func(context.Context) error { return nil })
	},
}

// isWatch reports whether the call of that name goes on until its context ends.
func isWatch(name string) bool { return name == "Events" || strings.HasPrefix(name, "Watch") }

func second[T any](_ T, err error) error { return err }

// lastOf returns the error that a watch ends with.
func lastOf(watch etcd.WatchChan) (err error) {
	for r := range watch {
		err = r.Err()
	}
	return err
}

// requireRefused holds that a call is refused by an *Error before anything is
// sent.
func requireRefused(t *testing.T, o *observer, name string, want error, call func() error) {
	t.Helper()
	var err error
	require.Empty(t, o.during(func() { err = call() }), name)
	require.ErrorIs(t, err, want, name)
	var e *etcd.Error
	require.ErrorAs(t, err, &e, name)
	require.NotEmpty(t, e.Op, name)
	require.False(t, e.Sent, name)
	require.False(t, etcd.MaybeApplied(err), name)
	require.False(t, etcd.IsRetryable(err), name)
}

// first returns the first of two values.
func first[T, U any](v T, _ U) T { return v }
