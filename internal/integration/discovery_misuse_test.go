package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
)

func TestBadRegistrationsAreRefusedUnsent(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx := within(t, patience)
	s, err := c.NewSession(ctx)
	require.NoError(t, err)
	foreign := newSession(t, client(t, config(srv)))
	good, long := discovery.Instance{Address: "x"}, strings.Repeat("x", 4097)
	guarded := newLock(t, c, "/lock").Guard(ctx)
	register := func(ctx context.Context, c *etcd.Client, service string, i discovery.Instance, opts ...discovery.RegisterOption) func() error {
		return func() error { return second(discovery.Register(ctx, c, service, i, opts...)) }
	}
	for name, bad := range map[string]struct {
		want error
		call func() error
	}{
		"nil context":    {etcd.ErrNilContext, register(nil, c, "s", good)},
		"nil client":     {etcd.ErrInvalidArgument, register(ctx, nil, "s", good)},
		"no name":        {etcd.ErrInvalidArgument, register(ctx, c, "", good)},
		"name in bytes":  {etcd.ErrInvalidArgument, register(ctx, c, "\xff", good)},
		"no address":     {etcd.ErrInvalidArgument, register(ctx, c, "s", discovery.Instance{ID: "a"})},
		"bytes":          {etcd.ErrInvalidArgument, register(ctx, c, "s", discovery.Instance{Address: "x", Zone: "\xff"})},
		"metadata":       {etcd.ErrInvalidArgument, register(ctx, c, "s", discovery.Instance{Address: "x", Metadata: map[string]string{"\xff": ""}})},
		"too large":      {etcd.ErrTooLarge, register(ctx, c, "s", discovery.Instance{Address: strings.Repeat("x", 64<<10)})},
		"negative TTL":   {etcd.ErrInvalidTTL, register(ctx, c, "s", good, discovery.WithTTL(-1))},
		"no TTL":         {etcd.ErrInvalidTTL, register(ctx, c, "s", good, discovery.WithTTL(0))},
		"longest TTL":    {etcd.ErrInvalidTTL, register(ctx, c, "s", good, discovery.WithTTL(1<<63-1))},
		"nil option":     {etcd.ErrInvalidArgument, register(ctx, c, "s", good, nil)},
		"nil session":    {etcd.ErrInvalidArgument, register(ctx, c, "s", good, discovery.WithSession(nil))},
		"nil logger":     {etcd.ErrInvalidArgument, register(ctx, c, "s", good, discovery.WithLogger(nil))},
		"foreign lease":  {etcd.ErrInvalidArgument, register(ctx, c, "s", good, discovery.WithSession(foreign))},
		"zero session":   {etcd.ErrInvalidArgument, register(ctx, c, "s", good, discovery.WithSession(&etcd.Session{}))},
		"long name":      {etcd.ErrTooLarge, register(ctx, c, long, good)},
		"long id":        {etcd.ErrTooLarge, register(ctx, c, "s", discovery.Instance{Address: "x", ID: long})},
		"huge id":        {etcd.ErrTooLarge, register(ctx, c, "s", discovery.Instance{Address: "x", ID: strings.Repeat("x", 1<<20)})},
		"long prefix":    {etcd.ErrTooLarge, register(ctx, c, "s", good, discovery.WithPrefix(long))},
		"later, long id": {etcd.ErrTooLarge, register(ctx, c, "s", discovery.Instance{Address: "x", ID: long}, discovery.WithBackground())},
		"id in bytes":    {etcd.ErrInvalidArgument, register(ctx, c, "s", discovery.Instance{Address: "x", ID: "\xff"})},
		"value in bytes": {etcd.ErrInvalidArgument, register(ctx, c, "s", discovery.Instance{Address: "x", Metadata: map[string]string{"k": "\xff"}})},
		"lookup, long":   {etcd.ErrTooLarge, func() error { return second(discovery.Instances(ctx, c, long)) }},
		"watch, long":    {etcd.ErrTooLarge, func() error { return lastWatched(ctx, c, long) }},
		"watch, huge":    {etcd.ErrTooLarge, func() error { return lastWatched(ctx, c, strings.Repeat("x", 1<<20)) }},
		"session, TTL":   {etcd.ErrInvalidArgument, register(ctx, c, "s", good, discovery.WithSession(s), discovery.WithTTL(time.Minute))},
		"guard, later":   {etcd.ErrInvalidArgument, register(guarded, c, "s", good, discovery.WithBackground())},
		"outlived guard": {etcd.ErrInvalidArgument, register(context.WithoutCancel(guarded), c, "s", good, discovery.WithBackground())},
		"lookup, name":   {etcd.ErrInvalidArgument, func() error { return second(discovery.Instances(ctx, c, "")) }},
		"lookup, client": {etcd.ErrInvalidArgument, func() error { return second(discovery.Instances(ctx, nil, "s")) }},
		"lookup, nil":    {etcd.ErrInvalidArgument, func() error { return second(discovery.Instances(ctx, c, "s", nil)) }},
		"lookup, warm":   {etcd.ErrInvalidArgument, func() error { return second(discovery.Instances(ctx, c, "s", discovery.WithWarm(1))) }},
		"watch, warm":    {etcd.ErrInvalidArgument, func() error { return lastWatched(ctx, c, "s", discovery.WithWarm(-1)) }},
		"watch, context": {etcd.ErrNilContext, func() error { return lastWatched(nil, c, "s") }}, //nolint:staticcheck // it is refused
		"watch, name":    {etcd.ErrInvalidArgument, func() error { return lastWatched(ctx, c, "") }},
	} {
		requireRefused(t, o, name, bad.want, bad.call)
	}
	closed := client(t, config(srv))
	require.NoError(t, closed.Close())
	require.ErrorIs(t, register(ctx, closed, "s", good)(), etcd.ErrClosed)
	require.ErrorIs(t, lastWatched(ctx, closed, "s"), etcd.ErrClosed)
	r := registered(t, c, "s", "a")
	require.ErrorIs(t, r.Update(nil, good), etcd.ErrNilContext) //nolint:staticcheck // it is refused
	require.ErrorIs(t, r.Close(nil), etcd.ErrNilContext)        //nolint:staticcheck // it is refused
	require.NoError(t, r.Close(ctx))
}

// What is as long as it may be, and escaped to the longest key, is registered and found.
func TestLongestNamesAreRegisteredAndFound(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, longest, p := within(t, patience), strings.Repeat("\x00", 4096), strings.Repeat("/", 4096)
	r, err := discovery.Register(ctx, c, longest, discovery.Instance{ID: longest, Address: "x"}, discovery.WithPrefix(p),
		discovery.WithTTL(59_000_000_001)) // nanoseconds
	require.NoError(t, err)
	require.Equal(t, []string{longest}, ids(t, c, longest, discovery.WithPrefix(p)))
	left, err := c.TimeToLive(ctx, r.Status().Lease)
	require.NoError(t, err)
	require.Equal(t, time.Minute, left.GrantedTTL, "rounded up")
	require.NoError(t, r.Close(ctx))
}

// lastWatched returns the error that a loop over a service ends with.
func lastWatched(ctx context.Context, c *etcd.Client, service string, opts ...discovery.LookupOption) (err error) {
	for _, err = range discovery.Watch(ctx, c, service, opts...) {
	}
	return err
}
