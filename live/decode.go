package live

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
)

// decode fills a configuration, which may hold defaults, from what a namer made.
func (n *namer) decode(from any, into any) {
	n.misfits(decode(from, into))
}

func decode(from, into any) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: into, WeaklyTypedInput: true, Squash: true,
		ZeroFields: true, // a slice or a map of the defaults is replaced, and not written to
		DecodeHook: convert,
		MatchName:  func(string, string) bool { return false }, // names are exact by now
	})
	if err == nil {
		err = d.Decode(from)
	}
	return err
}

// sameKey returns the one of names that is the same key of a mapping as another name, such
// as "1" and "01", and whether there is one: which of both counts would be up to chance.
// Otherwise it adds the other name to names.
func sameKey(s *shape, names map[any]string, name string) (other string, same bool) {
	if s.kind != kindMapping || s.typ.Key() == reflect.TypeFor[string]() {
		return "", false
	}
	key := reflect.New(s.typ.Key())
	if decode(name, key.Interface()) != nil {
		return "", false // it is told when all is decoded
	}
	at := key.Elem().Interface()
	if other, same = names[at]; !same {
		names[at] = name
	}
	return other, same
}

// misfits notes the problems that mapstructure found.
func (n *namer) misfits(err error) {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case nil:
	case *mapstructure.DecodeError:
		n.problem(n.keyOf(e.Name()), e.Name(), &misfit{text: reason(e), cause: e})
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			n.misfits(one)
		}
	case interface{ Unwrap() error }:
		n.misfits(e.Unwrap())
	default:
		n.problem("", "", &misfit{text: "does not fit", cause: err})
	}
}

// keyOf returns the key that a value at a path comes from.
func (n *namer) keyOf(path string) string {
	for path != "" {
		if key, ok := n.origin[path]; ok {
			return key
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return n.origin[""] // of a document
}

// reason says why a value doesn't fit, without quoting it.
func reason(err error) string {
	for _, known := range []error{errRange, errUnit, errEmpty, errForeign} {
		if errors.Is(err, known) {
			return "does not fit: " + known.Error()
		}
	}
	if parse, ok := errors.AsType[*mapstructure.ParseError](err); ok {
		return fmt.Sprintf("does not fit %v", parse.Expected.Type())
	}
	return "does not fit"
}

// differ returns the paths of the fields in which two configurations differ, in order. It
// doesn't look into maps and lists, whose names may be part of a value.
func differ[T any](s *shape, a, b *T) []string {
	if a == b {
		return nil
	}
	out := diff(s, "", reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), 0)
	slices.Sort(out)
	return out
}

// maxDepth is how deep fields are named: configurations may contain themselves.
const maxDepth = 32

func diff(s *shape, path string, a, b reflect.Value, depth int) (out []string) {
	for _, f := range s.order {
		a, b, at := a.FieldByIndex(f.index), b.FieldByIndex(f.index), join(path, f.name)
		whole := depth == maxDepth || f.shape.kind != kindStructure
		for !whole && a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil() {
			if a.Pointer() == b.Pointer() {
				break
			}
			a, b = a.Elem(), b.Elem()
		}
		switch {
		case !whole && a.Kind() == reflect.Struct:
			out = append(out, diff(f.shape, at, a, b, depth+1)...)
		case !reflect.DeepEqual(a.Interface(), b.Interface()):
			out = append(out, at)
		}
	}
	return out
}
