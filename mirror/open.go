package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

// Open returns a mirror of the keys that begin with prefix. It is loaded: it holds the
// state of one revision, which is no older than the call. The empty prefix is refused
// with [etcd.ErrEmptyPrefix] unless [WithAllKeys] is given.
//
// Loading takes two round trips, and then a stream, or a page for each MiB; keys are kept
// as they come. ctx bounds it, and each of its requests has [etcd.Config.RequestTimeout]
// if ctx has no deadline. After that ctx no longer matters: the mirror lives until
// [Mirror.Close], or until the client is closed. It has one goroutine. Its watch shares
// the streams of the client, so that a client may have thousands of mirrors.
//
// An undecodable value doesn't fail Open: see [Mirror.Bad]. If the key of one is
// unavailable at the moment, Open fails with [etcd.ErrKeyUnavailable].
func Open(ctx context.Context, client *etcd.Client, prefix string, opts ...Option) (*Mirror, error) {
	return open(ctx, client, prefix, nil, opts)
}

func open(ctx context.Context, client *etcd.Client, prefix string, decode func(etcd.KeyValue) (any, error), opts []Option) (*Mirror, error) {
	m := &Mirror{
		client: client, prefix: prefix, decode: decode,
		readers: map[*reader]struct{}{}, waiters: map[*waiter]struct{}{},
	}
	if err := m.check(ctx, opts); err != nil {
		return nil, m.fail(opOpen, err)
	}
	began := time.Now()
	first, err := m.load(ctx, nil)
	if err != nil {
		return nil, m.fail(opOpen, err)
	}
	m.current.Store(first)
	m.applied = first
	m.status = Status{Since: began, Confirmed: began, Cause: errNotYet}
	// Hooks see the caller's values in the context of the watch, but not its end.
	m.ctx, m.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	m.reads = readsOf(client)
	m.mend()
	m.start(m.follow)
	return m, nil
}

const opOpen = "open mirror"

func (m *Mirror) check(ctx context.Context, opts []Option) error {
	if ctx == nil {
		return etcd.ErrNilContext
	}
	if m.client.Raw() == nil {
		return fmt.Errorf("%w: nil client, or a zero one", etcd.ErrInvalidArgument)
	}
	var o options
	if err := optionsOf(opts, &o, Option.applyOpen); err != nil {
		return err
	}
	if m.prefix == "" && !o.allKeys {
		return etcd.ErrEmptyPrefix
	}
	if m.decode != nil {
		// Values without an encoding fail otherwise than by what they are given.
		_, err := m.decodeSafely(etcd.KeyValue{Key: m.prefix})
		if _, tried := errors.AsType[*etcd.DecodeError](err); !tried {
			return err
		}
	}
	return nil
}
