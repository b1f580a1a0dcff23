package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/etcdtest"
)

// differentlyKeyed returns clients none of which can read what another one encrypts.
func differentlyKeyed(t *testing.T, srv *etcdtest.Server) map[string]*etcd.Client {
	return map[string]*etcd.Client{
		"plain":       client(t, config(srv)),
		"a key":       client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 1)))),
		"another key": client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 2)))),
	}
}

func TestClientsWithOtherKeysNeverReplaceInstances(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx, all := within(t, patience), differentlyKeyed(t, srv)
	for holder, c := range all {
		r := registered(t, c, "cart", holder)
		before := r.Status()
		for name, other := range all {
			if name == holder {
				continue
			}
			instance := discovery.Instance{ID: holder, Address: "elsewhere"}
			_, err := discovery.Register(ctx, other, "cart", instance)
			require.ErrorIs(t, err, discovery.ErrDuplicateInstance, "%s over %s", name, holder)
			waiting, err := discovery.Register(ctx, other, "cart", instance, discovery.WithBackground())
			require.NoError(t, err)
			isLost(t, waiting, discovery.ErrDuplicateInstance)
			require.NoError(t, waiting.Close(ctx))
		}
		require.Equal(t, before, r.Status(), holder)
		stands(t, c, r, 0)
		require.NoError(t, r.Close(ctx))
	}
}

// A lease that the registration keeps alive never ends by itself.
func TestOverwritingUnderTheOwnLeaseIsHealed(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx, all := within(t, patience), differentlyKeyed(t, srv)
	for holder, c := range all {
		r := registered(t, c, "cart", holder)
		sharing := registered(t, c, "cart", holder+"2")
		require.Equal(t, r.Status().Lease, sharing.Status().Lease)
		for name, other := range all {
			for _, value := range []string{`{"address":"evil","registration":"zzz"}`, `{"address":"evil"}`, "{"} {
				before := r.Status()
				require.NoError(t, other.PutWithLease(ctx, r.Key(), []byte(value), before.Lease))
				require.Eventually(t, func() bool { return r.Status().Revision > before.Revision }, patience, time.Millisecond,
					"%s over %s: %s", name, holder, value)
				stands(t, c, r, before.Revision)
				require.Equal(t, before.Lease, r.Status().Lease)
			}
		}
		_, err := discovery.Register(ctx, c, "cart", discovery.Instance{ID: holder, Address: "elsewhere"})
		require.ErrorIs(t, err, discovery.ErrDuplicateInstance, "one that lives is told apart")
	}
}

func TestErrorsOfBadInstancesAreInOrder(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	var keys []string
	for i := range 9 {
		keys = append(keys, fmt.Sprint(discovery.DefaultPrefix, "cart/", i))
		require.NoError(t, c.Put(ctx, keys[i], []byte("{")))
	}
	_, err := discovery.Instances(ctx, c, "cart")
	require.Error(t, err)
	said := err.Error()
	for _, key := range keys {
		_, rest, ok := strings.Cut(said, key)
		require.True(t, ok, "%s in order in %s", key, err)
		said = rest
	}
}
