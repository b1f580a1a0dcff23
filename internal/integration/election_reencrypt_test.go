package integration

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestReencryptRewritesALeadersValueInPlace(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx, name := within(t, patience), prefix(t)+"election"
	old, primary := keyNumber(t, 1), keyNumber(t, 2)
	ring := ringOf(t, old)
	var checks atomic.Int64 // of the leader's key, by its leader
	c := client(t, config(srv).WithKeyring(ring).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op == "check locks" {
			checks.Add(1)
		}
	}}))
	e := newElection(t, c, name, etcd.WithLockTTL(2*time.Second), etcd.WithOwner("me"))
	require.NoError(t, e.Campaign(ctx, []byte("value")))
	held, guarded, token := e.Context(), e.Guard(ctx), e.Token()
	before := leads(t, c, name, "value")
	require.NoError(t, ring.Replace(primary, old))

	seen := make(chan etcd.LeaderInfo, 10)
	go func() {
		for info, err := range e.Observe(ctx) {
			if info.Token == 0 {
				return // the test is over
			}
			assert.NoError(t, err)
			seen <- info
		}
	}()
	require.Equal(t, before, next(t, seen))
	status, err := c.EncryptionStatus(ctx, name)
	require.NoError(t, err)
	require.EqualValues(t, 1, status.Total, "the record of its candidate is none of a user")
	require.EqualValues(t, 1, status.ByKey[old.ID()])

	report, err := c.Reencrypt(ctx, name)
	require.NoError(t, err)
	require.Equal(t, etcd.ReencryptReport{Scanned: 1, Stale: 1, Rewritten: 1}, report)
	status, err = c.EncryptionStatus(ctx, name)
	require.NoError(t, err)
	require.Equal(t, map[etcd.KeyID]int64{primary.ID(): 1}, status.ByKey)
	require.NoError(t, ring.Replace(primary))

	after := leads(t, c, name, "value")
	require.Greater(t, after.Revision, before.Revision)
	require.Equal(t, after, next(t, seen), "the same leader again")
	before.Revision = after.Revision
	require.Equal(t, before, after, "with its token and its lease")
	looked := checks.Load()
	require.Eventually(t, func() bool { return checks.Load() >= looked+2 }, patience, time.Millisecond)
	require.NoError(t, held.Err())
	require.Equal(t, token, e.Token())
	require.NoError(t, c.Put(guarded, name+"/data", nil))
	claims, err := e.Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 1)
	require.True(t, claims[0].Held)
	require.ErrorIs(t, claims[0].Err, etcd.ErrUnknownKey, "records stay as they are")

	list, err := c.List(ctx, name)
	require.NoError(t, err)
	require.Equal(t, []string{name + "/data"}, list)
	var file bytes.Buffer
	exported, err := c.Export(ctx, &file, name)
	require.NoError(t, err)
	require.EqualValues(t, 1, exported.Keys, "no leader is exported")

	require.NoError(t, e.Proclaim(ctx, []byte("second")))
	leads(t, c, name, "second")
	require.NoError(t, e.Resign(ctx))
	nothingLeft(t, c, name)
}

func TestKeyOfALeadersValueIsNotRetired(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx, name := within(t, patience), prefix(t)+"election"
	p := created(t, srv)
	c, old := p.values(t), p.primary(t)
	e := newElection(t, c, name)
	require.NoError(t, e.Campaign(ctx, []byte("value")))
	p.rotated(t)
	require.ErrorIs(t, p.RetireKey(ctx, old, etcd.WithRetireAge(0)), etcd.ErrKeyInUse)
	require.NoError(t, second(c.Reencrypt(ctx, "")))
	require.NoError(t, p.RetireKey(ctx, old, etcd.WithRetireAge(0)))
	require.Equal(t, e.Token(), leads(t, c, name, "value").Token)
}
