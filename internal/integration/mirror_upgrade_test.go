//go:build upgrade

package integration

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// Members of etcd 3.6, which ETCD36 names, are replaced by members of the version in this
// program one after the other, while the others serve. `make test-upgrade` builds them.
func TestWatchesAndMirrorsOutliveARollingUpgrade(t *testing.T) {
	program := os.Getenv("ETCD36")
	require.NotEmpty(t, program)
	o := newOrdealOf(t, newClusterOf(t, program))
	versions := func() (all []string) {
		for _, p := range o.cluster.members {
			status, err := o.direct[p.number].Raw().Status(within(t, busyTimeout), p.addr)
			require.NoError(t, err)
			all = append(all, status.Version[:4])
		}
		return all
	}
	require.Equal(t, []string{"3.6.", "3.6.", "3.6."}, versions())
	o.each(func(p *peer) {
		p.kill()
		o.write(o.cluster.after(p, 1))
		p.program = ""
		p.start()
	})
	require.Equal(t, []string{"3.7.", "3.7.", "3.7."}, versions())
}
