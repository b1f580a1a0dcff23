package mirror

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/blueprint-go/etcd"
)

// load reads everything at one revision. Of the state before, if there is one, it takes
// over the entries that are the same.
func (m *Mirror) load(ctx context.Context, before *state) (*state, error) {
	for tries := 0; ; tries++ {
		revision, err := m.client.Revision(ctx)
		if err != nil {
			return nil, err
		}
		next, err := m.read(ctx, revision, before)
		switch {
		case err == nil:
			return next, nil
		case errors.Is(err, etcd.ErrCompacted), errors.Is(err, etcd.ErrFutureRevision):
			// It was compacted meanwhile, or the cluster restored: again at a newer one.
			if !pause(ctx, backoff(tries, loadBackoff)) {
				return nil, m.fail("load mirror", errors.Join(context.Cause(ctx), err))
			}
		default:
			return nil, err
		}
	}
}

// loadBackoff is the first pause between two tries to load.
const loadBackoff = 10 * time.Millisecond

func (m *Mirror) read(ctx context.Context, revision int64, before *state) (*state, error) {
	if before == nil {
		before = newState(m.prefix, maphash.MakeSeed(), 0)
	}
	d := newState(m.prefix, before.table.seed, revision).draft()
	for kv, err := range m.client.Scan(ctx, m.prefix, etcd.WithRevision(revision)) {
		if _, undecoded := errors.AsType[*etcd.DecodeError](err); err != nil && !undecoded {
			return nil, err
		}
		e := d.newEntry(kv, m.extra(kv, err))
		if old := before.table.get(kv.Key); old != nil && old.equals(e) && old.hash == e.hash {
			e = old
		}
		d.load(e)
	}
	return d.done(), nil
}

// extra returns that of the entry of a key-value. It may call the application's code.
func (m *Mirror) extra(kv etcd.KeyValue, err error) (extra any) {
	if err == nil && m.decode != nil {
		extra, err = m.decodeSafely(kv)
	}
	if err != nil {
		return undecodable{err}
	}
	return extra
}

// decodeSafely turns a panic of the application's encoding into an error: nobody would
// recover it here.
func (m *Mirror) decodeSafely(kv etcd.KeyValue) (extra any, err error) {
	defer func() {
		if p := recover(); p != nil {
			// Not the panic itself, which may quote the value.
			err = &etcd.DecodeError{Key: kv.Key, Err: fmt.Errorf("%w: encoding panicked", etcd.ErrEncoding)}
		}
	}()
	return m.decode(kv)
}
