package integration

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestEventsComeOneByOneForALoop(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		p, ctx := prefix(t), within(t, patience)
		list, err := c.Range(ctx, p)
		require.NoError(t, err)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a": []byte("1"), p + "b": {}}))
		require.NoError(t, second(c.Delete(ctx, p+"a")))
		var told []string
		events := c.Events(ctx, p, etcd.WithRevision(list.Revision+1), etcd.WithPrevKV())
		for range 2 { // each loop is a watch of its own
			told = nil
			for ev, err := range events {
				require.NoError(t, err)
				what := ev.Type.String() + " " + ev.Kv.Key[len(p):]
				if ev.PrevKv != nil {
					what += " was " + string(ev.PrevKv.Value)
				}
				if told = append(told, what); len(told) == 3 {
					break
				}
			}
			require.ElementsMatch(t, []string{"PUT a", "PUT b"}, told[:2])
			require.Equal(t, "DELETE a was 1", told[2])
		}
	})
}

func TestEventsEndWithTheReason(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	for i := range 3 {
		require.NoError(t, c.Put(t.Context(), p+"k", []byte{byte(i)}))
	}
	compactAll(t, c)
	last := func(ctx context.Context, opts ...etcd.WatchOption) error {
		t.Helper()
		var last error
		for ev, err := range c.Events(ctx, p, opts...) {
			require.NoError(t, last, "nothing comes after an error")
			require.Nil(t, ev)
			last = err
		}
		return last
	}
	require.ErrorIs(t, last(within(t, patience), etcd.WithRevision(2)), etcd.ErrCompacted)
	why := context.Canceled
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	require.ErrorIs(t, last(ctx), why)
	for _, opt := range []etcd.WatchOption{etcd.WithProgressNotify(), etcd.WithWatchStatus(), etcd.WithResync()} {
		require.ErrorIs(t, last(t.Context(), opt), etcd.ErrInvalidArgument)
	}
	require.NoError(t, c.Close())
	require.ErrorIs(t, last(t.Context()), etcd.ErrClosed)
}

func TestUndecodableEventDoesNotEndTheLoop(t *testing.T) {
	t.Parallel()
	srv := server(t)
	plain, c := client(t, config(srv)), client(t, config(srv).WithEncryption(testKey))
	p, ctx := prefix(t), within(t, patience)
	from, err := c.Revision(ctx)
	require.NoError(t, err)
	require.NoError(t, plain.Put(ctx, p+"bad", []byte("plaintext")))
	require.NoError(t, c.Put(ctx, p+"good", []byte("value")))
	var told []string
	for ev, err := range c.Events(ctx, p, etcd.WithRevision(from+1)) {
		require.NotNil(t, ev, err)
		told = append(told, ev.Kv.Key[len(p):])
		if err != nil {
			var bad *etcd.DecodeError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, p+"bad", bad.Key)
			require.Equal(t, ev.Err, err)
			continue
		}
		require.Equal(t, "value", string(ev.Kv.Value))
		break
	}
	require.Equal(t, []string{"bad", "good"}, told)
}

func TestWatchOfARangeDeliversItAlone(t *testing.T) {
	t.Parallel()
	for _, namespace := range []string{"", "app/"} {
		c := client(t, config(server(t)).WithNamespace(namespace))
		ctx := within(t, patience)
		some := c.WatchRange(ctx, "b", "d")
		rest := c.WatchRange(ctx, "c", "")
		all := c.WatchRange(ctx, "", "", etcd.WithAllKeys())
		for _, key := range []string{"a", "b", "c\xff\x00", "d", "\xff"} {
			require.NoError(t, c.Put(ctx, key, nil))
		}
		keys := func(w etcd.WatchChan, n int) (out []string) {
			for _, ev := range events(t, w, n) {
				out = append(out, ev.Kv.Key)
			}
			return out
		}
		require.Equal(t, []string{"b", "c\xff\x00"}, keys(some, 2))
		require.Equal(t, []string{"c\xff\x00", "d", "\xff"}, keys(rest, 3))
		require.Equal(t, []string{"a", "b", "c\xff\x00", "d", "\xff"}, keys(all, 5))
	}
}

func TestWatchRefusesWhatContradictsItself(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	for name, w := range map[string]etcd.WatchChan{
		"both types":     c.Watch(t.Context(), "k", etcd.WithOnly(etcd.EventPut), etcd.WithOnly(etcd.EventDelete)),
		"unknown type":   c.Watch(t.Context(), "k", etcd.WithOnly(etcd.EventType(7))),
		"no buffer":      c.Watch(t.Context(), "k", etcd.WithWatchBuffer(0)),
		"empty range":    c.WatchRange(t.Context(), "b", "b"),
		"inverted range": c.WatchRange(t.Context(), "b", "a"),
	} {
		require.ErrorIs(t, lastError(t, w), etcd.ErrInvalidArgument, name)
	}
	require.ErrorIs(t, lastError(t, c.WatchRange(t.Context(), "", "")), etcd.ErrEmptyPrefix)
	require.Empty(t, o.during(func() {
		require.ErrorIs(t, lastError(t, c.WatchRange(t.Context(), "b", "a")), etcd.ErrInvalidArgument)
	}), "nothing is sent")
}

func TestClaimsOfLocksAreToldFromValues(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	w := c.WatchPrefix(ctx, p, etcd.WithPrevKV())
	require.NoError(t, c.WithLock(ctx, p+"lock", func(ctx context.Context) error { return c.Put(ctx, p+"k", nil) }))
	var claims []bool
	for _, ev := range events(t, w, 3) {
		claims = append(claims, ev.IsClaim())
	}
	require.Equal(t, []bool{true, false, true}, claims)
}

func TestTypedDecodesWhatWasReadOtherwise(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	users := etcd.NewTyped[user](c, p)
	require.Same(t, c, users.Client())
	require.Equal(t, p, users.Prefix())
	require.NoError(t, users.Put(t.Context(), "ann", user{Name: "ann"}))
	require.NoError(t, c.Put(t.Context(), p+"bad", []byte("{")))
	list, err := c.Range(t.Context(), p)
	require.NoError(t, err)
	ann, err := users.Decode(list.KVs[0])
	require.NoError(t, err)
	require.Equal(t, etcd.TypedValue[user]{Name: "ann", Value: user{Name: "ann"}, ModRevision: list.KVs[0].ModRevision}, ann)
	bad, err := users.Decode(list.KVs[1])
	require.ErrorIs(t, err, etcd.ErrEncoding)
	require.Equal(t, etcd.TypedValue[user]{Name: "bad", ModRevision: list.KVs[1].ModRevision}, bad)
	require.ErrorIs(t, second(users.Decode(etcd.KeyValue{Key: "elsewhere"})), etcd.ErrInvalidArgument)
	require.ErrorIs(t, second(new(etcd.Typed[user]).Decode(list.KVs[0])), etcd.ErrInvalidArgument)
}

// What waits for an idle consumer decides whether its watch keeps its place on a stream.
func TestWatchBufferBoundsWhatWaits(t *testing.T) {
	t.Parallel()
	for buffer, puts := range map[int]int{1 << 10: 50, 8 << 20: 300} { // without it, 100 of them fit
		var streams watchStreams
		c := client(t, config(server(t, streams.option(math.MaxUint32))))
		p, ctx := prefix(t), within(t, patience)
		w := c.WatchPrefix(ctx, p, etcd.WithWatchBuffer(buffer))
		clock := c.Watch(ctx, p+"last")
		for i := range puts {
			require.NoError(t, c.Put(ctx, fmt.Sprintf("%s%03d", p, i), make([]byte, 10<<10)))
		}
		require.NoError(t, c.Put(ctx, p+"last", nil))
		events(t, clock, 1) // so the stream has brought what is before it
		require.Len(t, events(t, w, puts+1), puts+1)
		require.Equal(t, buffer < 1<<20, streams.all.Load() > 1)
	}
}
