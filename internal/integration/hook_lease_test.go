package integration

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestPanicOfAHookLeavesNoLeaseBehind(t *testing.T) {
	t.Parallel()
	srv := server(t)
	hook := &startled{}
	c := client(t, config(srv).WithTimeout(busyTimeout).WithHooks(hook).WithLogger(slog.New(slog.DiscardHandler)))
	calls := map[string]func(){
		"grant":    func() { _, _ = c.Grant(t.Context(), time.Hour) },
		"new lock": func() { _, _ = c.NewLock(prefix(t), etcd.WithLockTTL(time.Hour)) },
		"with ttl": func() { _, _ = c.PutWithTTL(t.Context(), prefix(t)+"k", nil, time.Hour) },
		"close": func() {
			l, err := c.NewLock(prefix(t), etcd.WithLockTTL(time.Hour))
			require.NoError(t, err)
			panicIn(hook, "revoke", false)
			_ = l.Close()
		},
	}
	for name, call := range calls {
		ops := map[string]string{"grant": "grant", "new lock": "grant", "with ttl": "grant", "close": "nothing"}
		panicIn(hook, ops[name], true)
		require.Equal(t, "startled", survive(call), name)
		hook.when.Store(nil)
		require.Eventually(t, func() bool {
			leases, err := c.Raw().Leases(t.Context())
			return err == nil && len(leases.Leases) == 0
		}, busyTimeout, 10*time.Millisecond, name)
	}
	for _, after := range []bool{false, true} {
		panicIn(hook, "put with ttl", after)
		require.Equal(t, "startled", survive(calls["with ttl"]))
		hook.when.Store(nil)
		require.Eventually(t, func() bool {
			leases, err := c.Raw().Leases(t.Context())
			return err == nil && len(leases.Leases) == 0
		}, busyTimeout, 10*time.Millisecond)
	}
}

// panicIn lets the hook panic in requests of an operation.
func panicIn(hook *startled, op string, after bool) {
	when := func(req etcd.RequestInfo, is bool) bool { return req.Op == op && is == after }
	hook.when.Store(&when)
}
