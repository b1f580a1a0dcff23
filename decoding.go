package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/envelope"
	"github.com/blueprint-go/etcd/internal/keys"
)

// decoding decodes the values of one call, or of one response of a watch, within one
// budget of time and memory. It asks for keys that are missing here within one deadline
// for all values, and doesn't ask again for one that is unavailable. It is for one
// goroutine.
type decoding struct {
	codec *codec
	ctx   context.Context // the caller's
	// patience bounds the wait of a watch; nil means the deadline of the caller, or
	// RequestTimeout.
	patience *patience

	outside context.Context // ctx with its bounds; nil before it is needed
	cancel  context.CancelFunc

	looked  bool  // the stored ring was looked at
	lookErr error // the error of that look

	allowance envelope.Allowance
	failed    map[KeyID]error // why keys are unavailable
}

func (c *codec) decoding(ctx context.Context) decoding { return decoding{codec: c, ctx: ctx} }

// end must be called when the values are decoded.
func (d *decoding) end() {
	if d.cancel != nil {
		d.cancel()
	}
}

// within returns the context for calls that leave the process.
func (d *decoding) within() context.Context {
	if d.outside != nil {
		return d.outside
	}
	d.outside, d.cancel = d.codec.bounded(d.ctx, d.codec.timeout)
	if d.patience != nil { // in addition to the watch's own deadline
		end := d.cancel
		outside, free := context.WithTimeout(d.outside, d.patience.allows())
		d.outside, d.cancel = outside, func() {
			free()
			end()
		}
	}
	return d.outside
}

// bounded returns ctx with a deadline, timeout from now, if it has none. It ends with the
// client as well.
func (c *codec) bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { cancel(ErrClosed) })
	free := func() { cancel(nil) }
	if _, ok := ctx.Deadline(); !ok {
		ctx, free = context.WithTimeout(ctx, timeout)
	}
	return ctx, func() {
		stop()
		free()
		cancel(nil)
	}
}

// decode returns the value of stored. It may overwrite stored and return a part of it.
// Without an error the result is never nil, so that an empty value differs from a missing
// one.
func (d *decoding) decode(storedKey, stored []byte) ([]byte, error) {
	value, err := d.open(storedKey, stored)
	if err != nil {
		return nil, err
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

func (d *decoding) open(storedKey, stored []byte) ([]byte, error) {
	c := d.codec
	switch {
	case c.plain(storedKey):
		return stored, nil
	case c.keyring == nil:
		return c.envelope.Decompress(stored, &d.allowance)
	case !envelope.IsEnvelope(stored):
		return c.openForeign(storedKey, stored)
	}
	suite, err := envelope.SuiteOf(stored)
	// A frame that is only compressed is as unproven as plaintext.
	if err == nil && suite == envelope.NoSuite && !c.readsPlaintext(storedKey) {
		return nil, ErrNotEncrypted
	}
	value, err := d.unseal(suite, storedKey, stored)
	if c.provider == nil && c.keyring.source == nil || !errors.Is(err, ErrUnknownKey) {
		return value, err
	}
	id, _ := envelope.KeyIDOf(stored) // with an unknown key, stored has an ID and is unchanged
	if err := d.find(KeyID(id)); err != nil {
		return nil, err
	}
	return d.unseal(suite, storedKey, stored)
}

// unseal decrypts a value with a key of the ring, which may have to be called.
func (d *decoding) unseal(suite envelope.Suite, storedKey, stored []byte) ([]byte, error) {
	c := d.codec
	if suite != envelope.ExternalAEAD {
		return c.envelope.Open(d.ctx, c.keyring.current().ring, keys.Text(storedKey), stored, &d.allowance)
	}
	id, _ := envelope.KeyIDOf(stored)
	if err := d.failed[KeyID(id)]; err != nil {
		return nil, err
	}
	ctx := d.within()
	if d.patience.isExhausted() {
		return nil, unavailableKey(KeyID(id), errImpatient)
	}
	began := time.Now()
	value, err := c.envelope.Open(ctx, c.keyring.current().ring, keys.Text(storedKey), stored, &d.allowance)
	if errors.Is(err, ErrKeyUnavailable) {
		d.note(KeyID(id), err, time.Since(began))
	}
	return value, err
}

// errImpatient says that a watch didn't wait.
var errImpatient = errors.New("it could not be had a moment ago, and a watch does not wait again")

// find looks for a key that the ring lacks.
func (d *decoding) find(id KeyID) error {
	if err := d.failed[id]; err != nil {
		return err
	}
	began := time.Now()
	err := d.look(id)
	if err != nil && d.codec.provider != nil {
		err = moreCertain(d.codec.provider.find(d.within(), id)[id], err)
	}
	if err != nil {
		d.note(id, err, time.Since(began))
	}
	return err
}

// moreCertain returns the provider's error for a key that the stored ring could not
// supply. Only if both were asked is it certain that neither has the key.
func moreCertain(provider, ring error) error {
	if provider != nil && errors.Is(ring, ErrKeyUnavailable) {
		return ring
	}
	return provider
}

// look looks for a key in the stored ring, if there is one. One look serves all values,
// because it happens after they were read.
func (d *decoding) look(id KeyID) error {
	source := d.codec.keyring.source
	if source == nil {
		return ErrUnknownKey
	}
	if !d.looked {
		if d.patience.isExhausted() {
			return unavailableKey(id, errImpatient)
		}
		d.lookErr = source.look(d.within())
		d.looked = true
	}
	return source.lacks(id, d.lookErr)
}

// note records that a key is unavailable, after waiting for so long.
func (d *decoding) note(id KeyID, err error, waited time.Duration) {
	if d.failed == nil {
		d.failed = map[KeyID]error{}
	}
	d.failed[id] = err
	d.patience.spend(waited)
}

// prepare looks for all keys that the values lack, all at the same time.
func (d *decoding) prepare(kvs []*mvccpb.KeyValue) {
	c := d.codec
	if c.provider == nil || len(kvs) < 2 {
		return
	}
	var missing []KeyID
	seen := map[KeyID]bool{}
	for _, kv := range kvs {
		id, encrypted := envelope.KeyIDOf(kv.Value)
		if encrypted && !seen[KeyID(id)] && !c.plain(kv.Key) && !c.keyring.has(KeyID(id)) {
			seen[KeyID(id)] = true
			missing = append(missing, KeyID(id))
		}
	}
	if len(missing) < 2 {
		return
	}
	began := time.Now()
	if c.keyring.source != nil {
		missing = slices.DeleteFunc(missing, func(id KeyID) bool { return d.look(id) == nil })
	}
	for id, err := range c.provider.find(d.within(), missing...) {
		d.note(id, moreCertain(err, d.look(id)), 0)
	}
	if len(d.failed) > 0 {
		d.patience.spend(time.Since(began))
	}
}

// keyValue converts a key-value of the wire. keysOnly says that values were not asked
// for, so there is none to decode. The error is a *DecodeError, or an *unreadError for a
// value whose key is unavailable at the moment; then the key-value is complete except for
// its value.
func (d *decoding) keyValue(kv *mvccpb.KeyValue, keysOnly bool) (KeyValue, error) {
	out := KeyValue{
		Key:            d.codec.namespace.visible(kv.Key),
		CreateRevision: kv.CreateRevision,
		ModRevision:    kv.ModRevision,
		Version:        kv.Version,
		Lease:          LeaseID(kv.Lease),
	}
	if keysOnly {
		return out, nil
	}
	value, err := d.decode(kv.Key, kv.Value)
	if err != nil {
		return out, undecoded(out.Key, err)
	}
	out.Value = value
	return out, nil
}

// keyValues converts the key-values of an answer. It leaves out those whose value can't
// be had; the error joins a *DecodeError for each, or only the *unreadErrors if there are
// any: a caller that skips undecodable values must not skip values that are unreadable
// for now.
func (d *decoding) keyValues(kvs []*mvccpb.KeyValue, keysOnly bool) ([]KeyValue, error) {
	if !keysOnly {
		d.prepare(kvs)
	}
	out := make([]KeyValue, 0, len(kvs))
	var bad, unread []error
	for _, kv := range kvs {
		converted, err := d.keyValue(kv, keysOnly)
		switch {
		case err == nil:
			out = append(out, converted)
		case errors.Is(err, ErrKeyUnavailable):
			unread = append(unread, err)
		default:
			bad = append(bad, err)
		}
	}
	if unread != nil {
		return out, errors.Join(unread[:min(len(unread), maxReported)]...)
	}
	return out, errors.Join(bad...)
}

// joinUndecoded joins the errors of several values. Errors of values that can be read
// later hide the others: a caller that skips undecodable values must not skip those.
func joinUndecoded(errs ...error) error {
	for _, err := range errs {
		if errors.Is(err, ErrKeyUnavailable) {
			return err
		}
	}
	return errors.Join(errs...)
}

// undecoded returns the error of a value that was not decoded.
func undecoded(key string, err error) error {
	if errors.Is(err, ErrKeyUnavailable) {
		return &unreadError{key: key, err: err}
	}
	return &DecodeError{Key: key, Err: err}
}

// unreadError says that a value can't be read at the moment, since its key is
// unavailable. It is not a DecodeError: the same call may succeed a moment later.
type unreadError struct {
	key string
	err error
}

func (e *unreadError) Error() string { return fmt.Sprintf("value of %q: %v", e.key, e.err) }

func (e *unreadError) Unwrap() error { return e.err }

// maxReported bounds how many errors a report lists; all are counted.
const maxReported = 100
