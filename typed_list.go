package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// All returns the values in the order of their keys, like [Client.Scan]. An error that
// matches [*DecodeError] concerns one value, which comes with its name; the others
// follow. [WithKeysOnly] is refused with [ErrInvalidArgument].
func (t *Typed[T]) All(ctx context.Context, opts ...ScanOption) iter.Seq2[TypedValue[T], error] {
	return func(yield func(TypedValue[T], error) bool) {
		err := t.check(opScan, "")
		if err == nil && keysOnly(opts) {
			err = fail(opScan, t.prefix, fmt.Errorf("%w: values without values", ErrInvalidArgument))
		}
		if err != nil {
			yield(TypedValue[T]{}, err)
			return
		}
		for kv, err := range t.client.Scan(ctx, t.prefix, opts...) {
			if !yield(t.scanned(kv, err)) {
				return
			}
		}
	}
}

func keysOnly(opts []ScanOption) bool {
	var o scanOptions
	err := optionsOf(opts, &o, ScanOption.applyScan)
	return err == nil && o.keysOnly // Scan refuses invalid ones
}

func (t *Typed[T]) scanned(kv KeyValue, err error) (TypedValue[T], error) {
	var decode *DecodeError
	switch {
	case err == nil:
		out, err := t.unmarshal(kv)
		return out, answered("scan", kv.Key, err)
	case errors.As(err, &decode):
		return TypedValue[T]{Name: kv.Key[len(t.prefix):], ModRevision: kv.ModRevision}, err
	default:
		return TypedValue[T]{}, err
	}
}

// List returns the values by name. If some can't be decoded, the error joins a
// [*DecodeError] for each and the map holds the others.
func (t *Typed[T]) List(ctx context.Context, opts ...ScanOption) (map[string]T, error) {
	out := map[string]T{}
	var bad []error
	for v, err := range t.All(ctx, opts...) {
		var decode *DecodeError
		switch {
		case err == nil:
			out[v.Name] = v.Value
		case errors.As(err, &decode):
			bad = append(bad, err)
		default:
			return nil, err
		}
	}
	return out, errors.Join(bad...)
}
