package live

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// namer gives values the names of the fields that they are for, exactly, and finds those
// that have none, or one field for two.
type namer struct {
	strict   bool
	origin   map[string]string // the keys of values, by path as mapstructure has it
	problems []*FieldError
}

func (n *namer) problem(key, path string, err error) {
	n.problems = append(n.problems, &FieldError{Key: key, Field: fieldOf(path), Err: err})
}

// fieldOf returns the path of a field, without what lies in maps and lists: the names in a
// map may be part of a value.
func fieldOf(path string) string {
	field, _, _ := strings.Cut(path, "[")
	return field
}

// within returns the path of what lies under a name.
func within(s *shape, path, name string) string {
	if s.kind != kindStructure {
		return path + "[" + name + "]"
	}
	return join(path, name)
}

// value returns what a value is to mapstructure, for a shape. key is where it comes from.
func (n *namer) value(s *shape, key, path string, v any) any {
	if text, ok := v.(string); ok {
		parsed, err := parse(s, text)
		if err != nil {
			n.problem(key, path, err)
			return nil
		}
		v = parsed
	}
	in := reflect.ValueOf(v)
	switch {
	case s.kind == kindStructure && in.Kind() == reflect.Map:
		return n.structure(s, key, path, in)
	case s.kind == kindMapping && in.Kind() == reflect.Map:
		out, names := make(map[string]any, in.Len()), map[any]string{}
		for name, inner := range entriesOf(in) {
			if _, same := sameKey(s, names, name); same {
				n.problem(key, path, ErrSameField) // the names may be part of a value
				continue
			}
			out[name] = n.value(s.elem, key, within(s, path, name), inner)
		}
		return out
	case s.kind == kindSequence && (in.Kind() == reflect.Slice || in.Kind() == reflect.Array):
		out := make([]any, in.Len())
		for i := range out {
			out[i] = n.value(s.elem, key, fmt.Sprintf("%s[%d]", path, i), in.Index(i).Interface())
		}
		return out
	}
	return v
}

func (n *namer) structure(s *shape, key, path string, in reflect.Value) any {
	out, from := map[string]any{}, map[*field]string{}
	for name, inner := range entriesOf(in) {
		f := s.fields[strings.ToLower(name)]
		switch {
		case f == nil && s.remain:
			out[name] = inner
		case f == nil && n.strict:
			n.problem(key, path, fmt.Errorf("%q %w", name, ErrUnknownField))
		case f == nil:
		case from[f] != "":
			n.problem(key, within(s, path, f.name), fmt.Errorf("%w: %q and %q", ErrSameField, from[f], name))
		default:
			from[f] = name
			out[f.name] = n.value(f.shape, key, within(s, path, f.name), inner)
		}
	}
	return out
}

// entriesOf returns the entries of a map by their names, in order, so that the same
// problem is told each time. Parsers of YAML make maps of several types.
func entriesOf(m reflect.Value) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		names := map[string]any{}
		for _, k := range m.MapKeys() {
			names[fmt.Sprint(k.Interface())] = m.MapIndex(k).Interface()
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if !yield(name, names[name]) {
				return
			}
		}
	}
}

// parse returns what a text is for a shape: lists are JSON, or separated by commas, and
// structures and maps are objects of JSON.
func parse(s *shape, text string) (any, error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case s.kind == kindStructure, s.kind == kindMapping:
		object, err := parseJSON([]byte(trimmed))
		if err != nil {
			return nil, err
		}
		return object, nil
	case s.kind != kindSequence:
		return text, nil
	case strings.HasPrefix(trimmed, "["):
		var list []any
		return list, decodeJSON([]byte(trimmed), &list)
	case trimmed == "":
		return []any{}, nil
	}
	var list []any
	for element := range strings.SplitSeq(trimmed, ",") {
		list = append(list, strings.TrimSpace(element))
	}
	return list, nil
}

// parseJSON parses a document. Numbers keep their digits.
func parseJSON(data []byte) (map[string]any, error) {
	var object map[string]any
	if err := decodeJSON(data, &object); err != nil {
		return nil, err
	}
	if object == nil { // null
		return nil, &misfit{text: "not an object of JSON"}
	}
	return object, nil
}

func decodeJSON[T any](data []byte, into *T) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if err == nil {
		return nil
	}
	text := fmt.Sprintf("not a single value of JSON, from byte %d on", d.InputOffset())
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		text = fmt.Sprintf("not JSON: wrong at byte %d", syntax.Offset)
	} else if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		text = "JSON of another kind: an object is needed, or a list for a field that is one"
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		text = "JSON that breaks off"
	}
	return &misfit{text: text, cause: err}
}
