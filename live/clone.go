package live

import "reflect"

// unshare copies the structs that a value of a structure points to, so that decoding into
// it changes nothing that a function of the application has kept. Maps, slices and other
// pointers are replaced by decoding, not changed. copies are those made before, by what
// they are copies of.
func unshare(s *shape, v reflect.Value, copies map[any]reflect.Value) {
	for _, f := range s.order {
		if f.shape.kind != kindStructure {
			continue
		}
		at := v.FieldByIndex(f.index)
		for at.Kind() == reflect.Pointer && !at.IsNil() {
			known, seen := copies[at.Interface()]
			if !seen {
				known = reflect.New(at.Type().Elem())
				known.Elem().Set(at.Elem())
				copies[at.Interface()] = known
			}
			at.Set(known)
			if seen {
				at = reflect.Value{} // done, or under way
				break
			}
			at = known.Elem()
		}
		if at.Kind() == reflect.Struct {
			unshare(f.shape, at, copies)
		}
	}
}
