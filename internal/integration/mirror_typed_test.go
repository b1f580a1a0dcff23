package integration

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

// endpoint is what a service registers.
type endpoint struct {
	Host string
	Port int
}

func TestTypedMirrorDecodesWhatItHolds(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	p := prefix(t)
	typed := etcd.NewTyped[endpoint](other, p)
	require.NoError(t, typed.Put(t.Context(), "a", endpoint{"h", 1}))
	require.NoError(t, other.Put(t.Context(), p+"bad", []byte("{")))
	m, err := mirror.OpenTyped(t.Context(), etcd.NewTyped[endpoint](c, p))
	require.NoError(t, err)
	defer m.Close()
	require.Equal(t, 1, m.Len())
	require.Len(t, m.Bad(), 1)
	require.ErrorIs(t, m.Bad()["bad"], etcd.ErrEncoding)
	onServer, err := typed.Get(t.Context(), "a")
	require.NoError(t, err)
	v, ok := m.Get("a")
	require.True(t, ok)
	require.Equal(t, onServer, v)
	for _, missing := range []string{"bad", "", "none", p + "a"} {
		v, ok = m.Get(missing)
		require.False(t, ok)
		require.Zero(t, v)
	}

	changes := m.Changes(within(t, patience))
	ctx := within(t, patience)
	require.NoError(t, typed.Put(ctx, "b", endpoint{"h", 2}))
	require.NoError(t, typed.Put(ctx, "bad", endpoint{"h", 3}))
	require.NoError(t, m.Fresh(ctx))
	before := m.Snapshot()
	require.NoError(t, second(other.Delete(ctx, p+"a")))
	require.NoError(t, m.WaitFor(ctx, putRevision(t, other, p+"b", "broken")))
	require.ErrorIs(t, m.Bad()["b"], etcd.ErrEncoding)
	names := func(from, to string) (out []string) {
		for v := range before.Range(from, to) {
			out = append(out, v.Name)
		}
		return out
	}
	require.Equal(t, []string{"a", "b", "bad"}, names("", ""))
	require.Equal(t, []string{"b"}, names("b", "bad"))
	require.Equal(t, 3, before.Len())
	require.Less(t, before.Revision(), m.Revision())
	all := map[string]endpoint{}
	for v := range m.All() {
		all[v.Name] = v.Value
	}
	require.Equal(t, map[string]endpoint{"bad": {"h", 3}}, all)
	require.Equal(t, 1, m.Status().Bad)
	var told []mirror.TypedChange[endpoint]
	for change := range changes {
		if told = append(told, change); len(told) == 4 {
			break
		}
	}
	require.Len(t, told, 4)
	require.Equal(t, mirror.Created, told[0].Type)
	require.Equal(t, "b", told[0].Name)
	require.Equal(t, endpoint{"h", 2}, told[0].New.Value)
	require.Zero(t, told[0].Old)
	require.Equal(t, mirror.Updated, told[1].Type)
	require.Equal(t, "bad", told[1].Old.Name, "it existed")
	require.Equal(t, endpoint{"h", 3}, told[1].New.Value)
	require.Equal(t, mirror.Deleted, told[2].Type)
	require.Equal(t, endpoint{"h", 1}, told[2].Old.Value)
	require.Zero(t, told[2].New)
	require.Equal(t, endpoint{"h", 2}, told[3].Old.Value)
	require.Zero(t, told[3].New.Value)
	require.ErrorIs(t, told[3].Err, etcd.ErrEncoding)
	require.NoError(t, told[0].Err)
	m.Close()
	for change := range m.Changes(t.Context()) {
		require.Equal(t, mirror.Ended, change.Type)
		require.ErrorIs(t, change.Err, etcd.ErrClosed)
	}
}

// panicking is an encoding that panics for one value.
type panicking struct{ etcd.JSON[string] }

func (p panicking) Unmarshal(data []byte) (string, error) {
	if string(data) == `"panic"` {
		panic("an encoding's own fault, with a secret")
	}
	return p.JSON.Unmarshal(data)
}

func TestPanicOfAnEncodingSpoilsOneValueOnly(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	typed := etcd.NewTypedWith(c, p, panicking{})
	m, err := mirror.OpenTyped(t.Context(), typed)
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, typed.Put(t.Context(), "a", "panic"))
	require.NoError(t, typed.Put(t.Context(), "b", "fine"))
	require.NoError(t, m.Fresh(within(t, patience)))
	v, ok := m.Get("b")
	require.True(t, ok)
	require.Equal(t, "fine", v.Value)
	bad, ok := errors.AsType[*etcd.DecodeError](m.Bad()["a"])
	require.True(t, ok)
	require.ErrorIs(t, bad, etcd.ErrEncoding)
	require.NotContains(t, bad.Error(), "secret")
}

// exiting is an encoding that ends its goroutine for one value.
type exiting struct{ etcd.JSON[string] }

func (e exiting) Unmarshal(data []byte) (string, error) {
	if string(data) == `"exit"` {
		runtime.Goexit()
	}
	return e.JSON.Unmarshal(data)
}

func TestEncodingThatExitsEndsTheMirrorAudibly(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	typed := etcd.NewTypedWith(c, prefix(t), exiting{})
	m, err := mirror.OpenTyped(t.Context(), typed)
	require.NoError(t, err)
	defer m.Close()
	changes := m.Changes(within(t, patience))
	waiting := make(chan error, 1)
	go func() { waiting <- m.WaitFor(within(t, patience), 1<<62) }()
	require.NoError(t, typed.Put(t.Context(), "a", "fine"))
	require.NoError(t, m.Fresh(within(t, patience)))
	require.NoError(t, typed.Put(t.Context(), "b", "exit"))
	var last mirror.TypedChange[string]
	for last = range changes {
	}
	require.Equal(t, mirror.Ended, last.Type)
	for what, err := range map[string]error{
		"changes": last.Err, "wait": <-waiting, "later": m.Fresh(t.Context()), "status": m.Status().Cause,
	} {
		require.ErrorIs(t, err, etcd.ErrEncoding, what)
	}
	v, ok := m.Get("a")
	require.True(t, ok, "what it has stays")
	require.Equal(t, "fine", v.Value)
}

func TestTypedMirrorRefusesBadArguments(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	open := func(ctx context.Context, typed *etcd.Typed[string], opts ...mirror.Option) error {
		_, err := mirror.OpenTyped(ctx, typed, opts...)
		return err
	}
	var none context.Context
	require.ErrorIs(t, open(none, etcd.NewTyped[string](c, "p")), etcd.ErrNilContext)
	require.ErrorIs(t, open(t.Context(), nil), etcd.ErrInvalidArgument)
	require.ErrorIs(t, open(t.Context(), &etcd.Typed[string]{}), etcd.ErrInvalidArgument)
	require.ErrorIs(t, open(t.Context(), etcd.NewTypedWith[string](c, "p", nil)), etcd.ErrInvalidArgument)
	require.ErrorIs(t, open(t.Context(), etcd.NewTyped[string](c, "")), etcd.ErrEmptyPrefix)
	require.ErrorIs(t, open(t.Context(), etcd.NewTyped[string](c, "p"), nil), etcd.ErrInvalidArgument)
}
