package live

import (
	"encoding"
	"errors"
	"math"
	"net/url"
	"reflect"
	"strings"
	"time"
)

var (
	errRange   = errors.New("out of range")
	errUnit    = errors.New("a duration is written like 1m30s")
	errEmpty   = errors.New("empty")
	errForeign = errors.New("of another kind")
)

// convert is called by mapstructure for each value before it is decoded. It converts what
// mapstructure doesn't, and refuses what mapstructure would convert with a loss.
func convert(from, to reflect.Value) (any, error) {
	in := from.Interface()
	if in == nil || to.Kind() == reflect.Pointer || to.Kind() == reflect.Interface ||
		reflect.PointerTo(to.Type()).Implements(unmarshalerType) {
		return in, nil // mapstructure calls again for what a pointer points to
	}
	if from = reflect.ValueOf(in); from.Kind() == reflect.String {
		return convertText(from.String(), to)
	}
	switch to.Type() {
	case durationType:
		if isNumber(from.Kind()) && !from.IsZero() {
			return nil, errUnit // it would count as nanoseconds
		}
	case timeType, urlType:
		if from.Type() != to.Type() {
			return nil, errForeign
		}
	}
	return in, fits(from, to)
}

// convertText converts a text, or a number of JSON, for a field. White space around a
// number and the like doesn't count: files end with a newline, and so do many values.
func convertText(text string, to reflect.Value) (any, error) {
	trimmed := strings.TrimSpace(text)
	switch to.Type() {
	case durationType:
		d, err := time.ParseDuration(trimmed)
		return d, when(err == nil, errUnit)
	case urlType:
		u, err := url.Parse(trimmed)
		if err != nil {
			return nil, err
		}
		return *u, nil
	case timeType:
		text = trimmed
	}
	target := reflect.New(to.Type())
	if t, ok := target.Interface().(encoding.TextUnmarshaler); ok {
		if err := t.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		return target.Elem().Interface(), nil
	}
	switch kind := to.Kind(); {
	case isNumber(kind), kind == reflect.Bool:
		if trimmed == "" {
			return nil, errEmpty // mapstructure has it mean zero
		}
		return trimmed, nil
	case isBytes(to.Type()):
		// Set here, since mapstructure would decode each byte by itself; nil tells it that there
		// is nothing left to do.
		to.SetBytes([]byte(text))
		return nil, nil
	case kind == reflect.String:
		return text, nil
	}
	return nil, errForeign
}

// fits returns why a value that is no text can't become another without a loss; nil if it
// can.
func fits(from, to reflect.Value) error {
	switch kind := to.Kind(); {
	case isNumber(kind):
		return numberFits(from, to)
	case kind == reflect.String && isNumber(from.Kind()):
		return nil
	case kind == reflect.Slice || kind == reflect.Array:
		return when(from.Kind() == reflect.Slice || from.Kind() == reflect.Array, errForeign)
	case kind == reflect.Map || kind == reflect.Struct:
		return when(from.Kind() == reflect.Map || from.Type() == to.Type(), errForeign)
	}
	return when(from.Kind() == to.Kind(), errForeign)
}

// numberFits returns why a number is none of the type of to; nil if it is.
func numberFits(from, to reflect.Value) error {
	kind := to.Kind()
	switch {
	case !isNumber(from.Kind()):
		return errForeign
	case kind == reflect.Float32 || kind == reflect.Float64:
		return when(!from.CanFloat() || !to.OverflowFloat(from.Float()), errRange)
	case from.CanFloat():
		f := from.Float()
		if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return errRange
		}
		if to.CanUint() {
			return when(f >= 0 && !to.OverflowUint(uint64(f)), errRange)
		}
		return when(!to.OverflowInt(int64(f)), errRange)
	case from.CanInt() && to.CanInt():
		return when(!to.OverflowInt(from.Int()), errRange)
	case from.CanInt():
		return when(from.Int() >= 0 && !to.OverflowUint(uint64(from.Int())), errRange)
	case to.CanInt():
		return when(from.Uint() <= math.MaxInt64 && !to.OverflowInt(int64(from.Uint())), errRange)
	}
	return when(!to.OverflowUint(from.Uint()), errRange)
}

// when returns nil if a condition holds.
func when(ok bool, otherwise error) error {
	if ok {
		return nil
	}
	return otherwise
}

func isNumber(kind reflect.Kind) bool { return kind >= reflect.Int && kind <= reflect.Float64 }

func isBytes(typ reflect.Type) bool {
	return typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Uint8
}
