package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/blueprint-go/etcd/internal/envelope"
	"github.com/blueprint-go/etcd/internal/errs"
)

// Typed stores values of one Go type under one prefix. It has no state of its own: it is
// safe for concurrent use and need not be closed. Make one with [NewTyped]; the zero
// value, and one with a nil client or encoding, or a zero client, refuses every call with
// [ErrInvalidArgument]. A method takes as many round trips as the method of [Client] that
// it is named after.
//
// A value that can't be unmarshalled is an error with its key, a [*DecodeError] that
// matches [ErrEncoding], and never a zero T. A value that can't be marshalled fails with
// [ErrEncoding] too; then nothing is sent.
//
// Where the client doesn't encrypt, an encrypted value is a [*DecodeError] that matches
// [ErrUnknownKey], and is never handed to the encoding: [Client.Get] returns it as it is stored
// there, and an encoding that takes any bytes would take it for a value. No UTF-8 begins like
// one; an encoding whose bytes do fails with [ErrEncoding] there.
type Typed[T any] struct {
	client   *Client
	prefix   string
	encoding Encoding[T]
}

// NewTyped returns the values of type T under prefix, in JSON. The prefix is put before
// every name unchanged; it may be empty.
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
	// ModRevision is the revision of its last change, for [Typed.CompareAndSwap].
	ModRevision int64
}

// Client returns the client that t was made with.
func (t *Typed[T]) Client() *Client { return t.client }

// Prefix returns the prefix that t was made with.
func (t *Typed[T]) Prefix() string { return t.prefix }

// Decode converts a key-value that was read by other means, such as [Client.Range]. It
// returns everything but the value together with a [*DecodeError] if that can't be
// unmarshalled. A key without the prefix fails with [ErrInvalidArgument].
func (t *Typed[T]) Decode(kv KeyValue) (TypedValue[T], error) {
	const op = "decode"
	if err := t.check(op, ""); err != nil {
		return TypedValue[T]{}, err
	}
	if !strings.HasPrefix(kv.Key, t.prefix) {
		return TypedValue[T]{}, fail(op, kv.Key, fmt.Errorf("%w: key without the prefix %q", ErrInvalidArgument, t.prefix))
	}
	return t.unmarshal(kv)
}

// check returns an error if t can't read or write values.
func (t *Typed[T]) check(op, name string) error {
	if t.client.Raw() == nil || t.encoding == nil {
		return fail(op, t.prefix+name, fmt.Errorf("%w: values without a client or an encoding", ErrInvalidArgument))
	}
	return nil
}

// unmarshal converts a key-value. The error is a *DecodeError; everything but the value
// is returned with it.
func (t *Typed[T]) unmarshal(kv KeyValue) (TypedValue[T], error) {
	out := TypedValue[T]{Name: kv.Key[len(t.prefix):], ModRevision: kv.ModRevision}
	if t.isSealed(kv.Key, kv.Value) {
		return out, &DecodeError{Key: kv.Key, Err: ErrUnknownKey}
	}
	value, err := t.encoding.Unmarshal(kv.Value)
	if err != nil {
		return out, &DecodeError{Key: kv.Key, Err: errs.WithUnspoken(ErrEncoding, err)}
	}
	out.Value = value
	return out, nil
}

// isSealed reports whether bytes under a key are those of an encrypted value that the client has
// not decrypted, or can't be told from them.
func (t *Typed[T]) isSealed(key string, data []byte) bool {
	c := t.client.codec
	return envelope.IsEnvelope(data) && c.passesSealed(c.namespace.whole(key))
}

// errSealed is why bytes are not stored.
var errSealed = errors.New("they would be taken for an encrypted value")

// marshal returns bytes that are never nil, which would mean a deletion to
// [Client.Update]: an encoding may return nil for an empty message.
func (t *Typed[T]) marshal(op, name string, value T) ([]byte, error) {
	data, err := t.encoding.Marshal(value)
	switch {
	case err != nil:
		return nil, fail(op, t.prefix+name, errs.WithUnspoken(ErrEncoding, err))
	case t.isSealed(t.prefix+name, data):
		return nil, fail(op, t.prefix+name, errs.WithKind(ErrEncoding, errSealed))
	case data == nil:
		return []byte{}, nil
	}
	return data, nil
}

// checked is marshal, after check.
func (t *Typed[T]) checked(op, name string, value T) ([]byte, error) {
	if err := t.check(op, name); err != nil {
		return nil, err
	}
	return t.marshal(op, name, value)
}

// Get returns the value of a name, or [ErrKeyNotFound]. If the value can't be decoded, it
// returns everything else together with the error.
func (t *Typed[T]) Get(ctx context.Context, name string, opts ...GetOption) (TypedValue[T], error) {
	if err := t.check("get", name); err != nil {
		return TypedValue[T]{Name: name}, err
	}
	kv, err := t.client.GetKV(ctx, t.prefix+name, opts...)
	if err != nil {
		return TypedValue[T]{Name: name, ModRevision: kv.ModRevision}, err
	}
	out, err := t.unmarshal(kv)
	return out, answered("get", kv.Key, err)
}

// Put stores a value.
func (t *Typed[T]) Put(ctx context.Context, name string, value T, opts ...PutOption) error {
	data, err := t.checked("put", name, value)
	if err != nil {
		return err
	}
	return t.client.Put(ctx, t.prefix+name, data, opts...)
}

// Create stores a value under a name that is not taken, and reports whether it did, like
// [Client.PutIfNotExists].
func (t *Typed[T]) Create(ctx context.Context, name string, value T, opts ...PutOption) (bool, error) {
	data, err := t.checked("put if not exists", name, value)
	if err != nil {
		return false, err
	}
	return t.client.PutIfNotExists(ctx, t.prefix+name, data, opts...)
}

// Delete deletes a name and reports whether it existed.
func (t *Typed[T]) Delete(ctx context.Context, name string, opts ...DeleteOption) (bool, error) {
	if err := t.check("delete", name); err != nil {
		return false, err
	}
	n, err := t.client.Delete(ctx, t.prefix+name, opts...)
	return n > 0, err
}

// CompareAndSwap replaces a value if it has not changed since old was read, and reports
// whether it did. Like [Client.CompareAndSwapRevision] it compares the revision, because
// equal values may have different bytes. An old without a revision means that the name
// must not be taken.
func (t *Typed[T]) CompareAndSwap(ctx context.Context, old TypedValue[T], value T, opts ...PutOption) (bool, error) {
	data, err := t.checked("compare and swap", old.Name, value)
	if err != nil {
		return false, err
	}
	return t.client.CompareAndSwapRevision(ctx, t.prefix+old.Name, old.ModRevision, data, opts...)
}

// Update replaces a value by what f makes of it, like [Client.Update]; exists reports
// whether there was one. If f returns false for keep, the name is deleted.
func (t *Typed[T]) Update(ctx context.Context, name string, f func(old T, exists bool) (value T, keep bool, err error), opts ...UpdateOption) error {
	const op = "update"
	key := t.prefix + name
	if err := t.check(op, name); err != nil {
		return err
	}
	if f == nil {
		return fail(op, key, errNilFunction)
	}
	return t.client.Update(ctx, key, func(stored []byte) ([]byte, error) {
		var old TypedValue[T]
		if stored != nil {
			var err error
			if old, err = t.unmarshal(KeyValue{Key: key, Value: stored}); err != nil {
				return nil, answered(op, key, err)
			}
		}
		value, keep, err := f(old.Value, stored != nil)
		if err != nil || !keep {
			return nil, err
		}
		return t.marshal(op, name, value)
	}, opts...)
}

// GetIn is [Tx.Get] for the value of a name. An undecodable value makes the run void, as
// it does there.
func (t *Typed[T]) GetIn(tx *Tx, name string) (T, error) {
	key := t.prefix + name
	var none T
	if err := t.check(opTransact, name); err != nil {
		return none, tx.stop(err)
	}
	stored, err := tx.Get(key)
	if err != nil {
		return none, err
	}
	out, err := t.unmarshal(KeyValue{Key: key, Value: stored})
	if err != nil {
		return none, tx.stop(answered(opTransact, key, err))
	}
	return out.Value, nil
}

// PutIn is [Tx.Put] for a value.
func (t *Typed[T]) PutIn(tx *Tx, name string, value T, opts ...PutOption) error {
	data, err := t.checked(opTransact, name, value)
	if err != nil {
		return err
	}
	tx.Put(t.prefix+name, data, opts...)
	return nil
}
