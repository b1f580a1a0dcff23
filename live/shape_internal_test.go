package live

import (
	"fmt"
	"io"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

type itself struct {
	Name  string
	Next  *itself
	Below map[string]itself
	Many  []*itself
}

func TestUnfitTypesAreRefusedByField(t *testing.T) {
	t.Parallel()
	type inner struct{ Hook func() }
	type Named struct{ A string }
	for _, tc := range []struct {
		typ  reflect.Type
		says string
	}{
		{reflect.TypeFor[string](), "must be a struct"},
		{reflect.TypeFor[*server](), "must be a struct"},
		{reflect.TypeFor[map[string]string](), "must be a struct"},
		{reflect.TypeFor[time.Time](), "must be a struct"},
		{reflect.TypeFor[struct{}](), "has no field"},
		{reflect.TypeFor[struct{ hidden int }](), "has no field"},
		{reflect.TypeFor[struct {
			A int `mapstructure:"-"`
		}](), "has no field"},
		{reflect.TypeFor[struct{ C chan int }](), "field C of type chan int"},
		{reflect.TypeFor[struct{ F func() }](), "field F of type func()"},
		{reflect.TypeFor[struct{ In inner }](), "field In.Hook of type func()"},
		{reflect.TypeFor[struct{ In []*inner }](), "field In.Hook"},
		{reflect.TypeFor[struct{ In map[string]inner }](), "field In.Hook"},
		{reflect.TypeFor[struct{ R io.Reader }](), "field R of type io.Reader"},
		{reflect.TypeFor[struct{ C complex128 }](), "field C"},
		{reflect.TypeFor[struct{ M map[[2]int]string }](), "field M"},
		{reflect.TypeFor[struct{ Mu sync.Mutex }](), "field Mu of type sync.Mutex"},
		{reflect.TypeFor[struct {
			A string `mapstructure:"name"`
			B string `mapstructure:"NAME"`
		}](), "fields A and B"},
		{reflect.TypeFor[struct {
			Named `mapstructure:",squash"`
			B     string `mapstructure:"a"`
		}](), "fields A and B"},
		{reflect.TypeFor[struct {
			A string `mapstructure:"a/b"`
		}](), "can't hold a slash"},
		{reflect.TypeFor[struct{ *Named }](), "field Named: only a struct"},
		{reflect.TypeFor[struct {
			Named `mapstructure:"other"`
		}](), "field Named: only a struct"},
		{reflect.TypeFor[struct {
			R map[string]string `mapstructure:",remain"`
		}](), "field R"},
		{reflect.TypeFor[struct {
			A      string
			hidden Named `mapstructure:",squash"`
		}](), "field hidden"},
	} {
		_, err := shapeOf(tc.typ)
		require.ErrorIs(t, err, etcd.ErrInvalidArgument, tc.typ)
		require.ErrorContains(t, err, tc.says, tc.typ)
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[every](), reflect.TypeFor[itself](), reflect.TypeFor[struct {
			F func() `mapstructure:"-"`
			A int
		}](),
	} {
		_, err := shapeOf(typ)
		require.NoError(t, err, typ)
	}
}

func TestTypeThatContainsItselfIsFilled(t *testing.T) {
	t.Parallel()
	got, err := builderOf[itself](t, "/c/", false).try(stateOf(map[string]string{
		"next/next/name": "b", "below/x/below/y/name": "y", "many": `[{"next": {"name": "m"}}]`,
	}))
	require.NoError(t, err)
	require.Equal(t, &itself{
		Next:  &itself{Next: &itself{Name: "b"}},
		Below: map[string]itself{"x": {Below: map[string]itself{"y": {Name: "y"}}}},
		Many:  []*itself{{Next: &itself{Name: "m"}}},
	}, got)
	loop := &itself{Name: "loop"}
	loop.Next = loop
	b := builderOf[itself](t, "/c/", false, WithDefaults(func() itself { return itself{Next: loop} }))
	got, err = b.try(stateOf(map[string]string{"next/name": "n"}))
	require.NoError(t, err)
	require.Equal(t, "n", got.Next.Name)
	require.Equal(t, "loop", loop.Name)
}

func TestPanicsBecomeErrorsWithoutTheirValue(t *testing.T) {
	t.Parallel()
	own := fmt.Errorf("own %s", secretValue)
	for name, f := range map[string]func(*server) error{
		"value": func(*server) error { panic(secretValue) },
		"error": func(*server) error { panic(own) },
	} {
		trial := builderOf[server](t, "/c/", false, WithValidate(f)).begin(stateOf(map[string]string{"host": "h"}))
		<-trial.done
		var r *RejectedError
		require.ErrorAs(t, trial.err, &r, name)
		var p *PanicError
		require.ErrorAs(t, trial.err, &p, name)
		require.NotContains(t, trial.err.Error(), secretValue, name)
		require.Contains(t, string(p.Stack), "shape_internal_test.go", name)
		require.Equal(t, name == "error", trial.err != nil && p.Unwrap() == own, name)
		require.Nil(t, trial.value)
	}
}
