package integration

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// gobOf is an encoding that is not JSON.
type gobOf[T any] struct{}

func (gobOf[T]) Marshal(value T) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(value)
	return b.Bytes(), err
}

func (gobOf[T]) Unmarshal(data []byte) (T, error) {
	var value T
	err := gob.NewDecoder(bytes.NewReader(data)).Decode(&value)
	return value, err
}

// inEachEncoding runs a test for each encoding and each way to store values.
func inEachEncoding(t *testing.T, test func(t *testing.T, c *etcd.Client, users *etcd.Typed[user], p string)) {
	t.Helper()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		for name, encoding := range map[string]etcd.Encoding[user]{"json": etcd.JSON[user]{}, "gob": gobOf[user]{}} {
			p := prefix(t) + name + "/"
			test(t, c, etcd.NewTypedWith(c, p, encoding), p)
		}
	})
}

var (
	ann = user{"Ann", 30}
	bob = user{"Bob", 40}
)

func TestTypedValuesComeBackAsTheyWent(t *testing.T) {
	t.Parallel()
	inEachEncoding(t, func(t *testing.T, c *etcd.Client, users *etcd.Typed[user], p string) {
		ctx := t.Context()
		_, err := users.Get(ctx, "ann")
		require.ErrorIs(t, err, etcd.ErrKeyNotFound)
		require.NoError(t, users.Put(ctx, "ann", ann))
		got, err := users.Get(ctx, "ann")
		require.NoError(t, err)
		require.Equal(t, etcd.TypedValue[user]{Name: "ann", Value: ann, ModRevision: revisionOf(t, c)}, got)

		for _, want := range []bool{true, false} {
			created, err := users.Create(ctx, "bob", bob)
			require.NoError(t, err)
			require.Equal(t, want, created)
		}
		require.NoError(t, c.Put(ctx, p[:len(p)-1]+"0", []byte("beside")))
		all, err := users.List(ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]user{"ann": ann, "bob": bob}, all)
		var names []string
		for v, err := range users.All(ctx, etcd.WithReverse()) {
			require.NoError(t, err)
			require.Equal(t, all[v.Name], v.Value)
			require.NotZero(t, v.ModRevision)
			names = append(names, v.Name)
		}
		require.Equal(t, []string{"bob", "ann"}, names)
		for _, err := range users.All(ctx) {
			require.NoError(t, err)
			break // leaves nothing behind
		}

		for _, want := range []bool{true, false} {
			deleted, err := users.Delete(ctx, "bob")
			require.NoError(t, err)
			require.Equal(t, want, deleted)
		}
		all, err = users.List(ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]user{"ann": ann}, all)
	})
}

func TestTypedValuesAreJSONByDefault(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, p := t.Context(), prefix(t)
	require.NoError(t, etcd.NewTyped[user](c, p).Put(ctx, "ann", ann))
	stored, err := c.Get(ctx, p+"ann")
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"Ann","age":30}`, string(stored))

	// What is stored for a nil pointer is null, and is read as one.
	pointers := etcd.NewTyped[*user](c, p)
	require.NoError(t, pointers.Put(ctx, "nobody", nil))
	nobody, err := pointers.Get(ctx, "nobody")
	require.NoError(t, err)
	require.Nil(t, nobody.Value)

	// No prefix: the names are the keys.
	got, err := etcd.NewTyped[user](c, "").Get(ctx, p+"ann")
	require.NoError(t, err)
	require.Equal(t, ann, got.Value)
	require.Equal(t, p+"ann", got.Name)
}

func TestTypedCompareAndSwapComparesTheRevision(t *testing.T) {
	t.Parallel()
	inEachEncoding(t, func(t *testing.T, _ *etcd.Client, users *etcd.Typed[user], _ string) {
		ctx := t.Context()
		swap := func(old etcd.TypedValue[user], value user) bool {
			swapped, err := users.CompareAndSwap(ctx, old, value)
			require.NoError(t, err)
			return swapped
		}
		missing := etcd.TypedValue[user]{Name: "ann"}
		require.True(t, swap(missing, ann))
		require.False(t, swap(missing, bob))
		old, err := users.Get(ctx, "ann")
		require.NoError(t, err)
		require.True(t, swap(old, ann))
		require.False(t, swap(old, bob)) // equal, but changed since
	})
}

func TestTypedUpdateLosesNothing(t *testing.T) {
	t.Parallel()
	inEachEncoding(t, func(t *testing.T, c *etcd.Client, users *etcd.Typed[user], p string) {
		ctx := within(t, time.Minute)
		older := func(old user, exists bool) (user, bool, error) {
			assert.Equal(t, exists, old.Age > 0)
			return user{"Ann", old.Age + 1}, true, nil
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5 {
					assert.NoError(t, users.Update(ctx, "ann", older))
				}
			})
		}
		wg.Wait()
		got, err := users.Get(ctx, "ann")
		require.NoError(t, err)
		require.Equal(t, user{"Ann", 20}, got.Value)

		refused := errors.New("refused")
		require.Equal(t, refused, users.Update(ctx, "ann", func(user, bool) (user, bool, error) { return bob, true, refused }))
		require.NoError(t, users.Update(ctx, "ann", func(old user, _ bool) (user, bool, error) { return old, false, nil }))
		exists, err := c.Exists(ctx, p+"ann")
		require.NoError(t, err)
		require.False(t, exists)
		require.ErrorIs(t, users.Update(ctx, "ann", nil), etcd.ErrInvalidArgument)
	})
}

func TestTypedValuesInATransaction(t *testing.T) {
	t.Parallel()
	inEachEncoding(t, func(t *testing.T, c *etcd.Client, users *etcd.Typed[user], _ string) {
		ctx := t.Context()
		require.NoError(t, users.Put(ctx, "ann", ann))
		require.NoError(t, c.Transact(ctx, func(tx *etcd.Tx) error {
			got, err := users.GetIn(tx, "ann")
			if err != nil {
				return err
			}
			_, missing := users.GetIn(tx, "bob")
			assert.ErrorIs(t, missing, etcd.ErrKeyNotFound)
			got.Age++
			return errors.Join(users.PutIn(tx, "ann", got), users.PutIn(tx, "bob", bob))
		}))
		all, err := users.List(ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]user{"ann": {"Ann", 31}, "bob": bob}, all)
	})
}

// requireUnfit checks the error for a stored value that does not fit.
func requireUnfit(t *testing.T, err error, key, stored string) {
	t.Helper()
	var decode *etcd.DecodeError
	require.ErrorAs(t, err, &decode, stored)
	require.Equal(t, key, decode.Key)
	require.ErrorIs(t, err, etcd.ErrEncoding)
	// No word of the stored value, which an encoding may quote.
	require.EqualError(t, decode, fmt.Sprintf("etcd: decode %q: %v", key, etcd.ErrEncoding), stored)
}

// Stored values that are no user, some of them cut or of a later kind.
var unfit = []string{"", "{", "null", " null\n", `[]`, `"secret"`, `{"age":"secret"}`, `{"age":1.5}`, `{"name":"secret","age":[1]}`, `{"age":1}{"age":2}`}

func TestUnfitValueIsAnErrorNamingItsKey(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx := t.Context()
		for i, stored := range unfit {
			p := fmt.Sprintf("%s%d/", prefix(t), i)
			users := etcd.NewTyped[user](c, p)
			require.NoError(t, users.Put(ctx, "ann", ann))
			require.NoError(t, c.Put(ctx, p+"bad", []byte(stored)))
			revision := revisionOf(t, c)
			require.NoError(t, users.Put(ctx, "bob", bob))

			got, err := users.Get(ctx, "bad")
			requireUnfit(t, err, p+"bad", stored)
			require.Equal(t, etcd.TypedValue[user]{Name: "bad", ModRevision: revision}, got)

			requireUnfit(t, users.Update(ctx, "bad", func(user, bool) (user, bool, error) {
				t.Error("called with a value that is none")
				return bob, true, nil
			}), p+"bad", stored)
			requireUnfit(t, c.Transact(ctx, func(tx *etcd.Tx) error {
				_, err := users.GetIn(tx, "bad")
				assert.Error(t, err)
				return users.PutIn(tx, "bad", bob)
			}), p+"bad", stored)

			good, err := users.List(ctx)
			requireUnfit(t, err, p+"bad", stored)
			require.Equal(t, map[string]user{"ann": ann, "bob": bob}, good)

			var told []string
			for ev, err := range users.Watch(ctx, etcd.WithRevision(revision-1)) {
				told = append(told, fmt.Sprint(ev.Type, ev.Name, ev.Value, err != nil))
				if ev.Name == "bad" {
					requireUnfit(t, err, p+"bad", stored)
				}
				if len(told) == 3 {
					break
				}
			}
			require.Equal(t, []string{
				fmt.Sprint(etcd.EventPut, "ann", ann, false),
				fmt.Sprint(etcd.EventPut, "bad", user{}, true),
				fmt.Sprint(etcd.EventPut, "bob", bob, false),
			}, told)
			// A value that is known to be unfit can be replaced.
			swapped, err := users.CompareAndSwap(ctx, got, bob)
			require.NoError(t, err)
			require.True(t, swapped)
		}
	})
}

func TestUndecryptableTypedValueHidesNoOther(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, plain := client(t, config(srv).WithEncryption(testKey)), client(t, config(srv))
	ctx, p := t.Context(), prefix(t)
	users := etcd.NewTyped[user](c, p)
	require.NoError(t, users.Put(ctx, "ann", ann))
	require.NoError(t, plain.Put(ctx, p+"bad", []byte(`{"name":"planted"}`)))
	revision := revisionOf(t, plain)
	_, err := plain.Delete(ctx, p+"gone")
	require.NoError(t, err)
	require.NoError(t, users.Put(ctx, "bob", bob))

	got, err := users.Get(ctx, "bad")
	require.ErrorIs(t, err, etcd.ErrNotEncrypted)
	require.Equal(t, etcd.TypedValue[user]{Name: "bad", ModRevision: revision}, got)
	good, err := users.List(ctx)
	require.ErrorIs(t, err, etcd.ErrNotEncrypted)
	require.Equal(t, map[string]user{"ann": ann, "bob": bob}, good)
	var names []string
	for v, err := range users.All(ctx) {
		require.Equal(t, v.Name == "bad", errors.Is(err, etcd.ErrNotEncrypted))
		if err != nil {
			require.Equal(t, got, v)
		}
		names = append(names, v.Name)
	}
	require.Equal(t, []string{"ann", "bad", "bob"}, names)
	for ev, err := range users.Watch(ctx, etcd.WithRevision(revision)) {
		if ev.Name == "bob" {
			require.NoError(t, err)
			break
		}
		require.ErrorIs(t, err, etcd.ErrNotEncrypted)
		require.Equal(t, etcd.TypedValue[user]{Name: "bad", ModRevision: revision}, ev.TypedValue)
	}
}

func TestUnmarshallableValueIsNotSent(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx, p := t.Context(), prefix(t)
	values := etcd.NewTyped[any](c, p)
	bad := any(func() {})
	require.Empty(t, o.during(func() {
		for i, err := range []error{
			values.Put(ctx, "key", bad),
			second(values.Create(ctx, "key", bad)),
			second(values.CompareAndSwap(ctx, etcd.TypedValue[any]{Name: "key"}, bad)),
			c.Transact(ctx, func(tx *etcd.Tx) error { return values.PutIn(tx, "key", bad) }),
		} {
			assert.ErrorIs(t, err, etcd.ErrEncoding, i)
			assert.ErrorContains(t, err, p+"key", i)
		}
	}))
	err := values.Update(ctx, "key", func(any, bool) (any, bool, error) { return bad, true, nil })
	require.ErrorIs(t, err, etcd.ErrEncoding)
	exists, err := c.Exists(ctx, p+"key")
	require.NoError(t, err)
	require.False(t, exists)
}

// emptyAsNil marshals to nil, as some do with an empty message.
type emptyAsNil struct{}

func (emptyAsNil) Marshal(value string) ([]byte, error)  { return append([]byte(nil), value...), nil }
func (emptyAsNil) Unmarshal(data []byte) (string, error) { return string(data), nil }

func TestTypedUpdateToEmptyMessageIsNoDeletion(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, p := t.Context(), prefix(t)
	texts := etcd.NewTypedWith(c, p, emptyAsNil{})
	require.NoError(t, texts.Put(ctx, "key", "old"))
	require.NoError(t, texts.Update(ctx, "key", func(string, bool) (string, bool, error) { return "", true, nil }))
	got, err := texts.Get(ctx, "key")
	require.NoError(t, err)
	require.Empty(t, got.Value)
}

func TestTypedWatchDeliversChangesOfItsNamesOnly(t *testing.T) {
	t.Parallel()
	inEachEncoding(t, func(t *testing.T, c *etcd.Client, users *etcd.Typed[user], p string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first := revisionOf(t, c) + 1
		require.NoError(t, users.Put(ctx, "ann", ann))
		require.NoError(t, c.Put(ctx, p[:len(p)-1]+"0", nil))
		require.NoError(t, users.Put(ctx, "ann", bob))
		_, err := users.Delete(ctx, "ann")
		require.NoError(t, err)
		var got []etcd.TypedEvent[user]
		var last error
		for ev, err := range users.Watch(ctx, etcd.WithRevision(first)) {
			require.NoError(t, last, "nothing comes after an error")
			if last = err; err != nil {
				require.Zero(t, ev)
				continue
			}
			if got = append(got, ev); len(got) == 3 {
				cancel()
			}
		}
		require.ErrorIs(t, last, context.Canceled)
		require.Equal(t, []etcd.TypedEvent[user]{
			{Type: etcd.EventPut, TypedValue: etcd.TypedValue[user]{Name: "ann", Value: ann, ModRevision: first}},
			{Type: etcd.EventPut, TypedValue: etcd.TypedValue[user]{Name: "ann", Value: bob, ModRevision: first + 2}},
			{Type: etcd.EventDelete, TypedValue: etcd.TypedValue[user]{Name: "ann", ModRevision: first + 3}},
		}, got)
	})
}

func TestImpossibleTypedIterationYieldsItsErrorAlone(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	closed, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	ctx, users := t.Context(), etcd.NewTyped[user](c, prefix(t))
	watched := func(users *etcd.Typed[user], ctx context.Context) (errs []error) {
		for ev, err := range users.Watch(ctx) {
			require.Zero(t, ev)
			errs = append(errs, err)
		}
		return errs
	}
	listed := func(users *etcd.Typed[user], ctx context.Context, opts ...etcd.ScanOption) (errs []error) {
		for v, err := range users.All(ctx, opts...) {
			require.Zero(t, v)
			errs = append(errs, err)
		}
		_, err := users.List(ctx, opts...)
		require.EqualError(t, err, errs[0].Error())
		return errs
	}
	for i, test := range []struct {
		errs []error
		want error
	}{
		{watched(etcd.NewTyped[user](c, ""), ctx), etcd.ErrEmptyPrefix},
		{watched(users, nil), etcd.ErrNilContext},
		{watched(etcd.NewTyped[user](closed, "p"), ctx), etcd.ErrClosed},
		{listed(users, nil), etcd.ErrNilContext},
		{listed(etcd.NewTyped[user](closed, "p"), ctx), etcd.ErrClosed},
		{listed(users, ctx, etcd.WithKeysOnly()), etcd.ErrInvalidArgument},
	} {
		require.Len(t, test.errs, 1, i)
		require.ErrorIs(t, test.errs[0], test.want, i)
	}
}
