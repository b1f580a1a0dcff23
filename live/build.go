package live

import (
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/blueprint-go/etcd"
)

// builder makes configurations out of states, the same one out of the same state.
type builder[T any] struct {
	shape     *shape
	prefix    string // or the key of the document
	document  bool
	strict    bool
	defaults  func() T       // nil for none
	validate  func(*T) error // nil for none
	unmarshal func([]byte) (map[string]any, error)
}

// newBuilder checks T and the settings that are about it.
func newBuilder[T any](prefix string, document bool, s *settings) (*builder[T], error) {
	b := &builder[T]{prefix: prefix, document: document, strict: s.strict, unmarshal: s.unmarshal}
	var err error
	if b.shape, err = shapeOf(reflect.TypeFor[T]()); err != nil {
		return nil, err
	}
	if b.defaults, err = functionOf[func() T]("WithDefaults", s.defaults); err != nil {
		return nil, err
	}
	if b.validate, err = functionOf[func(*T) error]("WithValidate", s.validate); err != nil {
		return nil, err
	}
	switch {
	case document && s.allKeys:
		return nil, fmt.Errorf("%w: WithAllKeys is for Open", etcd.ErrInvalidArgument)
	case !document && s.unmarshal != nil:
		return nil, fmt.Errorf("%w: WithUnmarshal is for OpenDocument", etcd.ErrInvalidArgument)
	case s.unmarshal == nil:
		b.unmarshal = parseJSON
	}
	return b, nil
}

// functionOf returns a function that an option was given, if it is of the type that it has
// to be.
func functionOf[F any](option string, given any) (F, error) {
	f, ok := given.(F)
	if !ok && given != nil {
		return f, fmt.Errorf("%w: %s was given a %T, and needs a %v", etcd.ErrInvalidArgument, option, given, reflect.TypeFor[F]())
	}
	return f, nil
}

// build makes the configuration of a state, and validates it.
func (b *builder[T]) build(s state) (*T, *RejectedError) {
	n := &namer{strict: b.strict, origin: map[string]string{}}
	for _, key := range slices.Sorted(maps.Keys(s.entries)) {
		if err := s.entries[key].err; err != nil {
			n.problem(key, "", err)
		}
	}
	if len(n.problems) > 0 {
		return nil, rejection(s.revision, n.problems)
	}
	var from any
	if b.document {
		from = b.parse(n, s)
	} else {
		from = b.collect(n, s)
	}
	if len(n.problems) > 0 {
		return nil, rejection(s.revision, n.problems)
	}
	value := new(T)
	if b.defaults != nil {
		*value = b.defaults()
		unshare(b.shape, reflect.ValueOf(value).Elem(), map[any]reflect.Value{})
	}
	if n.decode(from, value); len(n.problems) > 0 {
		return nil, rejection(s.revision, n.problems)
	}
	if b.validate != nil {
		if err := b.validate(value); err != nil {
			return nil, &RejectedError{Revision: s.revision, Err: err}
		}
	}
	return value, nil
}

// collect returns what the keys of a state are to mapstructure.
func (b *builder[T]) collect(n *namer, s state) any {
	if len(s.entries) == 0 && b.defaults == nil {
		n.problem("", "", fmt.Errorf("%w under %q", etcd.ErrKeyNotFound, b.prefix))
		return nil
	}
	root := &tree{}
	for _, key := range slices.Sorted(maps.Keys(s.entries)) {
		rest := strings.TrimPrefix(key, b.prefix)
		if !strings.HasSuffix(b.prefix, "/") {
			rest = strings.TrimPrefix(rest, "/")
		}
		root.grow(key, rest, string(s.entries[key].value))
	}
	return n.fields(b.shape, "", root)
}

// parse returns what the document of a state is to mapstructure.
func (b *builder[T]) parse(n *namer, s state) any {
	e, ok := s.entries[b.prefix]
	if !ok {
		n.problem(b.prefix, "", etcd.ErrKeyNotFound)
		return nil
	}
	object, err := b.unmarshal(e.value)
	if err == nil && object == nil {
		err = &misfit{text: "not an object"}
	}
	if err != nil {
		if _, ours := err.(*misfit); !ours { //nolint:errorlint // what parseJSON returns
			err = &misfit{text: "not a document", cause: err}
		}
		n.problem(b.prefix, "", err)
		return nil
	}
	n.origin[""] = b.prefix
	return n.value(b.shape, b.prefix, "", object)
}

// trial is a configuration that is being made and validated. Nothing can end a function of
// the application, so it lasts as long as they do.
type trial[T any] struct {
	state state
	done  chan struct{} // closed at the end; then the rest is set
	value *T
	err   *RejectedError
}

// begin makes a configuration in a goroutine of its own.
func (b *builder[T]) begin(s state) *trial[T] {
	t := &trial[T]{state: s, done: make(chan struct{})}
	go func() { // ends with the application's functions; who waits for it watches the time
		defer close(t.done)
		returned := false
		defer func() {
			if p := recover(); p != nil || !returned {
				t.value, t.err = nil, &RejectedError{Revision: s.revision, Err: &PanicError{Value: p, Stack: debug.Stack()}}
			}
		}()
		t.value, t.err = b.build(s)
		returned = true
	}()
	return t
}
