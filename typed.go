package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// Encoding turns values of a Go type into bytes and back, for [Typed]. It must be
// safe for concurrent use. [JSON] is the default; a wrapper of two lines makes one
// of protobuf, YAML or anything else.
type Encoding[T any] interface {
	Marshal(value T) ([]byte, error)
	Unmarshal(data []byte) (T, error)
}

// JSON is the [Encoding] of package encoding/json.
type JSON[T any] struct{}

// Marshal implements [Encoding].
func (JSON[T]) Marshal(value T) ([]byte, error) { return json.Marshal(value) }

// Unmarshal implements [Encoding].
func (JSON[T]) Unmarshal(data []byte) (T, error) {
	var value T
	return value, json.Unmarshal(data, &value)
}

// Typed stores values of one Go type under one prefix. It has no state of its
// own: it is safe for concurrent use and need not be closed. Make one with
// [NewTyped].
//
// A value that can't be unmarshalled is an error with its key, a [*DecodeError]
// that matches [ErrEncoding], and never a zero T.
type Typed[T any] struct {
	client   *Client
	prefix   string
	encoding Encoding[T]
}

// NewTyped returns the values of type T under prefix, in JSON. The prefix is put
// before every name as it is; it may be empty.
func NewTyped[T any](client *Client, prefix string) *Typed[T] {
	return NewTypedWith(client, prefix, JSON[T]{})
}

// NewTypedWith is [NewTyped] with another encoding.
func NewTypedWith[T any](client *Client, prefix string, encoding Encoding[T]) *Typed[T] {
	return &Typed[T]{client: client, prefix: prefix, encoding: encoding}
}

// TypedValue is a value with its name and what the server knows about it.
type TypedValue[T any] struct {
	// Name is the key without the prefix.
	Name string
	// Value is the value.
	Value T
	// ModRevision is the revision of its last change, for
	// [Typed.CompareAndSwap].
	ModRevision int64
}

// Get returns the value of a name, or [ErrKeyNotFound].
func (t *Typed[T]) Get(ctx context.Context, name string, opts ...GetOption) (TypedValue[T], error) {
	kv, err := t.client.GetKV(ctx, t.prefix+name, opts...)
	if err != nil {
		return TypedValue[T]{Name: name}, err
	}
	return t.value(kv)
}

// value converts a key-value.
func (t *Typed[T]) value(kv KeyValue) (TypedValue[T], error) {
	out := TypedValue[T]{Name: kv.Key[len(t.prefix):], ModRevision: kv.ModRevision}
	value, err := t.encoding.Unmarshal(kv.Value)
	if err != nil {
		// Not the encoding's words: they may quote the value.
		return out, &DecodeError{Key: kv.Key, Err: ErrEncoding}
	}
	out.Value = value
	return out, nil
}

func (t *Typed[T]) marshal(op, name string, value T) ([]byte, error) {
	data, err := t.encoding.Marshal(value)
	if err != nil {
		return nil, fail(op, t.prefix+name, fmt.Errorf("%w: %w", ErrEncoding, err))
	}
	return data, nil
}

// Put stores a value. One that can't be marshalled is [ErrEncoding]; nothing is
// sent.
func (t *Typed[T]) Put(ctx context.Context, name string, value T, opts ...PutOption) error {
	data, err := t.marshal("put", name, value)
	if err != nil {
		return err
	}
	return t.client.Put(ctx, t.prefix+name, data, opts...)
}

// Create stores a value under a name that is not taken, and reports whether it
// did.
func (t *Typed[T]) Create(ctx context.Context, name string, value T, opts ...PutOption) (bool, error) {
	data, err := t.marshal("put if not exists", name, value)
	if err != nil {
		return false, err
	}
	return t.client.PutIfNotExists(ctx, t.prefix+name, data, opts...)
}

// Delete deletes a name and reports whether it existed.
func (t *Typed[T]) Delete(ctx context.Context, name string) (bool, error) {
	n, err := t.client.Delete(ctx, t.prefix+name)
	return n > 0, err
}

// CompareAndSwap replaces a value that was read, if it has not been changed since,
// and reports whether it did. Two equal values may be different bytes, so that it
// is the revision that is compared.
func (t *Typed[T]) CompareAndSwap(ctx context.Context, old TypedValue[T], value T, opts ...PutOption) (bool, error) {
	data, err := t.marshal("compare and swap", old.Name, value)
	if err != nil {
		return false, err
	}
	return t.client.CompareAndSwapRevision(ctx, t.prefix+old.Name, old.ModRevision, data, opts...)
}

// Update replaces a value by what f makes of it, as [Client.Update] does; exists
// tells whether there was one. When f returns false, the name is deleted.
func (t *Typed[T]) Update(ctx context.Context, name string, f func(old T, exists bool) (value T, keep bool, err error)) error {
	key := t.prefix + name
	return t.client.Update(ctx, key, func(stored []byte) ([]byte, error) {
		var old T
		if stored != nil {
			v, err := t.value(KeyValue{Key: key, Value: stored})
			if err != nil {
				return nil, err
			}
			old = v.Value
		}
		value, keep, err := f(old, stored != nil)
		if err != nil || !keep {
			return nil, err
		}
		return t.marshal("update", name, value)
	})
}

// All returns the values in the order of their names, as [Client.Scan] does. An
// error that matches [*DecodeError] concerns one value; the others follow.
func (t *Typed[T]) All(ctx context.Context, opts ...ScanOption) iter.Seq2[TypedValue[T], error] {
	return func(yield func(TypedValue[T], error) bool) {
		for kv, err := range t.client.Scan(ctx, t.prefix, opts...) {
			out := TypedValue[T]{ModRevision: kv.ModRevision}
			if kv.Key != "" {
				out.Name = kv.Key[len(t.prefix):]
			}
			if err == nil {
				out, err = t.value(kv)
			}
			if !yield(out, err) {
				return
			}
		}
	}
}

// List returns the values by name. When some can't be decoded, the error joins a
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

// TypedEvent is a change of one name.
type TypedEvent[T any] struct {
	// Type says what happened.
	Type EventType
	TypedValue[T]
	// Err is a [*DecodeError] when the value could not be decoded; the Value is
	// zero then.
	Err error
}

// Watch delivers the changes of all names, as [Client.WatchPrefix] does, one by
// one. The error that ends a watch comes as the last pair. It begins when it is
// ranged over; [WithRevision] makes it begin at a revision. An empty prefix needs
// [WithAllKeys].
func (t *Typed[T]) Watch(ctx context.Context, opts ...WatchOption) iter.Seq2[TypedEvent[T], error] {
	return func(yield func(TypedEvent[T], error) bool) {
		if err := t.client.admit(ctx); err != nil {
			yield(TypedEvent[T]{}, fail("watch", t.prefix, err))
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for resp := range t.client.WatchPrefix(ctx, t.prefix, opts...) {
			if err := resp.Err(); err != nil {
				yield(TypedEvent[T]{}, err)
				return
			}
			for _, ev := range resp.Events {
				if !yield(t.event(ev), nil) {
					return
				}
			}
		}
	}
}

func (t *Typed[T]) event(ev *Event) TypedEvent[T] {
	out := TypedEvent[T]{Type: ev.Type, Err: ev.Err}
	out.Name, out.ModRevision = ev.Kv.Key[len(t.prefix):], ev.Kv.ModRevision
	if ev.Type == EventPut && ev.Kv.Value != nil {
		out.TypedValue, out.Err = t.value(*ev.Kv)
	}
	return out
}

// GetTyped reads a key in a transaction and unmarshals its JSON.
func GetTyped[T any](tx *Tx, key string) (T, error) {
	var none T
	data, err := tx.Get(key)
	if err != nil {
		return none, err
	}
	value, err := JSON[T]{}.Unmarshal(data)
	if err != nil {
		return none, fail("transact", key, &DecodeError{Key: key, Err: ErrEncoding})
	}
	return value, nil
}

// PutTyped writes a key in a transaction, marshalled to JSON.
func PutTyped[T any](tx *Tx, key string, value T, opts ...PutOption) error {
	data, err := JSON[T]{}.Marshal(value)
	if err != nil {
		return fail("transact", key, fmt.Errorf("%w: %w", ErrEncoding, err))
	}
	tx.Put(key, data, opts...)
	return nil
}
