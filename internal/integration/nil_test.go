package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// arguments are those that a call found by reflection is given, by type. Others are
// zero.
func arguments(t *testing.T) map[reflect.Type]reflect.Value {
	given := []any{
		[]string{"key"},
		map[string][]byte{"key": nil},
		int64(1), strings.NewReader(noKeys),
		func(context.Context) error { return nil },
		func(*etcd.Tx) error { return nil },
		maps.All(map[string][]byte{"key": nil}),
		func(old []byte) ([]byte, error) { return old, nil },
		func(old string, _ bool) (string, bool, error) { return old, true, nil },
	}
	out := map[reflect.Type]reflect.Value{
		reflect.TypeFor[context.Context](): reflect.ValueOf(t.Context()),
		reflect.TypeFor[io.Writer]():       reflect.ValueOf(io.Discard),
		reflect.TypeFor[io.Reader]():       reflect.ValueOf(strings.NewReader(noKeys)),
	}
	for _, v := range given {
		out[reflect.TypeOf(v)] = reflect.ValueOf(v)
	}
	return out
}

// isNullable reports whether an argument of that type can be nil and is looked for
// here: an option, or a function.
func isNullable(typ reflect.Type) bool {
	return typ.Kind() == reflect.Func || typ.Kind() == reflect.Interface && strings.HasSuffix(typ.Name(), "Option")
}

// withNil calls f once for each argument that can be nil, with that one nil, and
// passes on how the call ends.
func withNil(t *testing.T, f reflect.Value, do func(argument string, call func() error)) {
	t.Helper()
	typ := f.Type()
	for null := range typ.NumIn() {
		in := make([]reflect.Value, typ.NumIn())
		at := typ.In(null)
		if typ.IsVariadic() && null == typ.NumIn()-1 {
			at = at.Elem()
		}
		if !isNullable(at) {
			continue
		}
		given := arguments(t)
		for i := range in {
			want := typ.In(i)
			if in[i] = reflect.Zero(want); given[want].IsValid() && i != null {
				in[i] = given[want]
			}
			if want.Kind() == reflect.String { // in order, as the ends of a range are
				in[i] = reflect.ValueOf(fmt.Sprint("key", i))
			}
		}
		if typ.IsVariadic() {
			last := len(in) - 1
			in[last] = reflect.MakeSlice(typ.In(last), 0, 1)
			if null == last {
				in[last] = reflect.Append(in[last], reflect.Zero(at))
			}
		}
		do(at.String(), func() error {
			if typ.IsVariadic() {
				return errorOf(f.CallSlice(in))
			}
			return errorOf(f.Call(in))
		})
	}
}

// errorOf returns the error among results, be it that of a sequence or of a watch.
func errorOf(results []reflect.Value) error {
	switch last := results[len(results)-1].Interface().(type) {
	case error:
		return last
	case nil:
		return nil
	case etcd.WatchChan:
		return lastOf(last)
	default:
		var err error
		for _, e := range results[len(results)-1].Seq2() {
			err, _ = e.Interface().(error)
		}
		return err
	}
}

func TestNilOptionsAndFunctionsAreRefusedEverywhere(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		found := 0
		for _, of := range []any{c, etcd.NewTyped[string](c, "typed/")} {
			v := reflect.ValueOf(of)
			for i := range v.NumMethod() {
				name := v.Type().Method(i).Name
				if name == "PutIn" {
					continue // through Transact, below
				}
				withNil(t, v.Method(i), func(argument string, call func() error) {
					found++
					name := fmt.Sprint(name, " of a nil ", argument)
					requireRefused(t, o, name, etcd.ErrInvalidArgument, func() error {
						err := call()
						require.ErrorContains(t, err, "nil", name)
						return err
					})
				})
			}
		}
		require.Greater(t, found, 30, "calls that take options or functions")

		for name, op := range map[string]any{
			"OpPut": etcd.OpPut, "OpGet": etcd.OpGet, "OpGetPrefix": etcd.OpGetPrefix, "OpListPrefix": etcd.OpListPrefix,
			"OpGetRange": etcd.OpGetRange, "OpListRange": etcd.OpListRange, "OpDeletePrefix": etcd.OpDeletePrefix, "OpDeleteRange": etcd.OpDeleteRange,
		} {
			f := reflect.ValueOf(op)
			commit := reflect.MakeFunc(reflect.FuncOf(inOf(f.Type()), []reflect.Type{reflect.TypeFor[error]()}, true), func(in []reflect.Value) []reflect.Value {
				_, err := c.Txn().Then(f.CallSlice(in)[0].Interface().(etcd.Op)).Commit(t.Context())
				return []reflect.Value{reflect.ValueOf(&err).Elem()}
			})
			withNil(t, commit, func(_ string, call func() error) {
				requireRefused(t, o, name, etcd.ErrInvalidArgument, call)
			})
		}
		typed := etcd.NewTyped[string](c, "typed/")
		var none etcd.PutOption
		for name, f := range map[string]func(tx *etcd.Tx) error{
			"Tx.Put": func(tx *etcd.Tx) error { tx.Put("key", nil, none); return nil },
			"PutIn":  func(tx *etcd.Tx) error { return typed.PutIn(tx, "name", "value", none) },
		} {
			requireRefused(t, o, name, etcd.ErrInvalidArgument, func() error { return c.Transact(t.Context(), f) })
		}
	})
}

func inOf(f reflect.Type) []reflect.Type {
	out := make([]reflect.Type, f.NumIn())
	for i := range out {
		out[i] = f.In(i)
	}
	return out
}

func TestOptionOfANilFunctionIsRefused(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx := t.Context()
		var none etcd.ChunkOption
		for name, call := range map[string]func() error{
			"WithLoadProgress": func() error {
				return second(c.BulkLoad(ctx, func(yield func(string, []byte) bool) { yield("key", nil) }, etcd.WithLoadProgress(nil)))
			},
			"WithImportProgress": func() error {
				return second(c.Import(ctx, strings.NewReader(noKeys), etcd.WithImportProgress(nil)))
			},
			"WithReencryptProgress": func() error { return second(c.Reencrypt(ctx, "", etcd.WithReencryptProgress(nil))) },
			"InChunks":              func() error { return second(c.BulkGet(ctx, []string{"key"}, etcd.InChunks(none))) },
		} {
			requireRefused(t, o, name, etcd.ErrInvalidArgument, call)
		}
	})
}

// noEncoding has the shape of an encoding that nobody has set.
var noEncoding etcd.Encoding[string]

func TestTypedValuesNeedAClientAndAnEncoding(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx := t.Context()
		for name, typed := range map[string]*etcd.Typed[string]{
			"zero":         {},
			"nil client":   etcd.NewTyped[string](nil, "p/"),
			"nil encoding": etcd.NewTypedWith(c, "p/", noEncoding),
		} {
			for call, f := range map[string]func() error{
				"Get":            func() error { return second(typed.Get(ctx, "n")) },
				"Put":            func() error { return typed.Put(ctx, "n", "v") },
				"Create":         func() error { return second(typed.Create(ctx, "n", "v")) },
				"Delete":         func() error { return second(typed.Delete(ctx, "n")) },
				"CompareAndSwap": func() error { return second(typed.CompareAndSwap(ctx, etcd.TypedValue[string]{Name: "n"}, "v")) },
				"Update": func() error {
					return typed.Update(ctx, "n", func(string, bool) (string, bool, error) { return "v", true, nil })
				},
				"List": func() error { return second(typed.List(ctx)) },
				"Watch": func() error {
					for _, err := range typed.Watch(ctx) {
						return err
					}
					return nil
				},
				"GetIn": func() error {
					return c.Transact(ctx, func(tx *etcd.Tx) error { return second(typed.GetIn(tx, "n")) })
				},
				"PutIn": func() error {
					return c.Transact(ctx, func(tx *etcd.Tx) error { return typed.PutIn(tx, "n", "v") })
				},
			} {
				requireRefused(t, o, name+" "+call, etcd.ErrInvalidArgument, f)
			}
		}
	})
}

func TestWithLockOfNilFunctionTakesNoLock(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	require.ErrorIs(t, c.WithLock(t.Context(), "lock", nil), etcd.ErrInvalidArgument)
	leases, err := c.Raw().Leases(t.Context())
	require.NoError(t, err)
	require.Empty(t, leases.Leases)
	failed := errors.New("failed")
	require.ErrorIs(t, c.WithLock(t.Context(), "lock", func(context.Context) error { return failed }), failed)
}
