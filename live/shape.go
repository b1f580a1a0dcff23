package live

import (
	"encoding"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"

	"github.com/blueprint-go/etcd"
)

// shape is what can be filled in a type.
type shape struct {
	kind kind
	typ  reflect.Type // without pointers
	// fields are those of a structure, by their names in lower case.
	fields map[string]*field
	order  []*field
	// remain says that a structure takes names that are no field's.
	remain bool
	// elem is the shape of what a mapping or a sequence holds.
	elem *shape
}

type kind int

const (
	kindLeaf      kind = iota // one value
	kindStructure             // fields
	kindMapping               // values by name
	kindSequence              // values in order
	kindOpen                  // anything
)

type field struct {
	name  string // as it is given to mapstructure
	index []int  // for reflect's FieldByIndex
	shape *shape
}

var (
	textType        = reflect.TypeFor[encoding.TextUnmarshaler]()
	unmarshalerType = reflect.TypeFor[mapstructure.Unmarshaler]()
	durationType    = reflect.TypeFor[time.Duration]()
	timeType        = reflect.TypeFor[time.Time]()
	urlType         = reflect.TypeFor[url.URL]()
)

// shapeOf returns what can be filled in a struct type, or an error that names the field
// that can't be.
func shapeOf(typ reflect.Type) (*shape, error) {
	if typ.Kind() != reflect.Struct || isLeafStruct(typ) {
		return nil, fmt.Errorf("%w: a configuration must be a struct with fields, %v is none", etcd.ErrInvalidArgument, typ)
	}
	s := &shaper{known: map[reflect.Type]*shape{}}
	return s.shape(typ, "")
}

// shaper finds shapes. Types may contain themselves, by pointers, maps and slices.
type shaper struct{ known map[reflect.Type]*shape }

func (s *shaper) shape(typ reflect.Type, path string) (*shape, error) {
	for passed := map[reflect.Type]bool{}; typ.Kind() == reflect.Pointer; typ = typ.Elem() {
		if passed[typ] { // it leads to nothing but itself
			return nil, unfit(path, typ)
		}
		passed[typ] = true
	}
	if known := s.known[typ]; known != nil {
		return known, nil
	}
	out := &shape{typ: typ}
	s.known[typ] = out
	switch {
	case reflect.PointerTo(typ).Implements(unmarshalerType):
		out.kind = kindOpen
		return out, nil
	case reflect.PointerTo(typ).Implements(textType), isLeafStruct(typ):
		return out, nil
	}
	switch typ.Kind() {
	case reflect.Struct:
		out.kind = kindStructure
		return out, s.structure(out, path)
	case reflect.Map:
		return out, s.mapping(out, path)
	case reflect.Interface:
		out.kind = kindOpen
		if typ.NumMethod() > 0 {
			return nil, unfit(path, typ)
		}
	case reflect.Slice, reflect.Array:
		if isBytes(typ) {
			return out, nil
		}
		var err error
		out.kind = kindSequence
		out.elem, err = s.shape(typ.Elem(), path)
		return out, err
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Uintptr, reflect.Complex64, reflect.Complex128:
		return nil, unfit(path, typ)
	}
	return out, nil
}

// isLeafStruct reports whether a struct type is made of one value.
func isLeafStruct(typ reflect.Type) bool {
	return typ == timeType || typ == urlType || reflect.PointerTo(typ).Implements(textType)
}

func unfit(path string, typ reflect.Type) error {
	return fmt.Errorf("%w: field %s of type %v can't be filled; tag it `mapstructure:\"-\"` to leave it alone",
		etcd.ErrInvalidArgument, path, typ)
}

func (s *shaper) mapping(out *shape, path string) (err error) {
	out.kind = kindMapping
	switch out.typ.Key().Kind() {
	case reflect.Chan, reflect.Struct, reflect.Array, reflect.Pointer, reflect.Interface, reflect.Complex64, reflect.Complex128:
		if !reflect.PointerTo(out.typ.Key()).Implements(textType) {
			return unfit(path, out.typ)
		}
	}
	out.elem, err = s.shape(out.typ.Elem(), path)
	return err
}

func (s *shaper) structure(out *shape, path string) error {
	out.fields = map[string]*field{}
	if err := s.collect(out, out.typ, nil, path); err != nil {
		return err
	}
	if len(out.fields) == 0 && !out.remain {
		if path == "" {
			return fmt.Errorf("%w: %v has no field that can be filled", etcd.ErrInvalidArgument, out.typ)
		}
		return unfit(path, out.typ)
	}
	return nil
}

// collect adds the fields of a struct type, which lie at index in the structure.
func (s *shaper) collect(out *shape, typ reflect.Type, index []int, path string) error {
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		at := append(append(make([]int, 0, len(index)+1), index...), i)
		has := func(option string) bool {
			for o := range strings.SplitSeq(options, ",") {
				if o == option {
					return true
				}
			}
			return false
		}
		var err error
		switch {
		case name == "-" && options == "":
		case has("squash"), f.Anonymous && isStruct(f.Type):
			err = s.squash(out, f, name, at, path)
		case !f.IsExported():
		case has("remain"):
			out.remain = true
			out.order = append(out.order, &field{name: f.Name, index: at, shape: &shape{kind: kindOpen}})
			if f.Type.Kind() != reflect.Map || f.Type.Elem().Kind() != reflect.Interface {
				err = unfit(join(path, f.Name), f.Type)
			}
		default:
			if name == "" {
				name = f.Name
				if other, _, _ := strings.Cut(f.Tag.Get("json"), ","); other != "" && other != "-" && !strings.EqualFold(other, name) {
					return fmt.Errorf("%w: field %s has the name %q in its tag for JSON alone; tag it `mapstructure:%q` as well",
						etcd.ErrInvalidArgument, join(path, f.Name), other, other)
				}
			}
			err = s.add(out, f, name, at, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isStruct reports whether a type is a struct of fields, or a pointer to one.
func isStruct(typ reflect.Type) bool {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return typ.Kind() == reflect.Struct && !isLeafStruct(typ)
}

// squash adds the fields of a struct to those of the one around it, which is what embedding
// means. A pointer would have no fields while it is nil, and mapstructure has a name count
// for nothing.
func (s *shaper) squash(out *shape, f reflect.StructField, name string, at []int, path string) error {
	if f.Type.Kind() != reflect.Struct || isLeafStruct(f.Type) || name != "" {
		return fmt.Errorf("%w: field %s: only a struct can be embedded, without a name of its own",
			etcd.ErrInvalidArgument, join(path, f.Name))
	}
	if !f.IsExported() && !f.Anonymous { // nothing outside of its package can set its fields
		return unfit(join(path, f.Name), f.Type)
	}
	return s.collect(out, f.Type, at, path)
}

// add adds a field to a structure.
func (s *shaper) add(out *shape, f reflect.StructField, name string, at []int, path string) error {
	if strings.Contains(name, "/") {
		return fmt.Errorf("%w: field %s is named %q: a name can't hold a slash, a nested struct makes one",
			etcd.ErrInvalidArgument, join(path, f.Name), name)
	}
	if other := out.fields[strings.ToLower(name)]; other != nil {
		return fmt.Errorf("%w: the names of fields %s and %s are both %q, whatever the case",
			etcd.ErrInvalidArgument, join(path, out.typ.FieldByIndex(other.index).Name), join(path, f.Name), name)
	}
	inner, err := s.shape(f.Type, join(path, f.Name))
	if err != nil {
		return err
	}
	added := &field{name: name, index: at, shape: inner}
	out.fields[strings.ToLower(name)] = added
	out.order = append(out.order, added)
	return nil
}

// join appends a name to the path of a field.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
