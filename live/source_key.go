package live

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/blueprint-go/etcd"
)

// keyed is one key as a source. A mirror would hold all keys that begin with it, and need
// the permission for them.
type keyed struct {
	client *etcd.Client
	key    string
	ctx    context.Context // ends with the source
	cancel context.CancelFunc

	mu  sync.Mutex
	now connection
}

// followKey follows one key.
func followKey(life context.Context, client *etcd.Client, key string) follower {
	return func(ctx context.Context) (source, state, iter.Seq[revision], error) {
		k := &keyed{client: client, key: key, now: connection{since: time.Now(), cause: errNotYet}}
		first, err := k.read(ctx)
		if err != nil {
			return nil, state{}, nil, err
		}
		k.ctx, k.cancel = context.WithCancel(life)
		// What is returned is judged, and saved, while k moves on.
		at := state{revision: first.revision, entries: maps.Clone(first.entries)}
		return k, first, func(yield func(revision) bool) { k.follow(at, yield) }, nil
	}
}

// errNotYet is the cause of a watch that was not registered yet.
var errNotYet = errors.New("watch is not registered yet")

func (k *keyed) close() { k.cancel() }

func (k *keyed) status() connection {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

// connected notes whether the watch is connected, and otherwise why not.
func (k *keyed) connected(yes bool, cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now.connected != yes {
		k.now.connected, k.now.since = yes, time.Now()
	}
	k.now.cause = cause
}

func (k *keyed) confirm(at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now.confirmed = at
}

// read reads the key and the revision at which it is read, in one round trip.
func (k *keyed) read(ctx context.Context) (state, error) {
	began := time.Now()
	res, err := k.client.Txn().Then(etcd.OpGet(k.key)).Commit(ctx)
	if err != nil {
		return state{}, err
	}
	s, got := state{revision: res.Revision, entries: map[string]entry{}}, res.Results[0]
	switch {
	case errors.Is(got.Err, etcd.ErrKeyUnavailable):
		return state{}, got.Err
	case got.Err != nil:
		s.entries[k.key] = entry{err: got.Err}
	case len(got.KVs) > 0:
		s.entries[k.key] = k.entryOf(&got.KVs[0], nil)
	}
	k.confirm(began)
	return s, nil
}

// entryOf returns what a read or an event says of the key.
func (k *keyed) entryOf(kv *etcd.KeyValue, err error) entry {
	if err == nil {
		_, err = etcd.NewTypedWith(k.client, k.key, raw{}).Decode(*kv)
	}
	if err != nil {
		return entry{err: err}
	}
	return entry{value: kv.Value}
}

// follow yields the changes after a state. Where the watch ends, it reads the key and goes
// on from there.
func (k *keyed) follow(at state, yield func(revision) bool) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		registered, err := k.watch(&at, yield)
		if err == nil || k.ctx.Err() != nil || errors.Is(err, etcd.ErrClosed) {
			return
		}
		k.connected(false, err)
		if registered {
			pause = firstPause
		}
		now, ok := k.readAgain(pause)
		if !ok {
			return
		}
		before, was := at.entries[k.key]
		after, is := now.entries[k.key]
		at = now
		if was == is && before.err == nil && after.err == nil && bytes.Equal(before.value, after.value) {
			continue
		}
		one := change{key: k.key}
		if is {
			one.now = &after
		}
		if !yield(revision{now.revision, []change{one}}) {
			return
		}
	}
}

// readAgain reads the key until that succeeds, and reports whether it did before the source
// or the client ended. A watch instead would be silent about a value whose key was
// unavailable, and where a restored history ends before its position.
func (k *keyed) readAgain(pause time.Duration) (state, bool) {
	for ; wait(k.ctx, pause); pause = min(2*pause, longestPause) {
		now, err := k.read(k.ctx)
		switch {
		case err == nil:
			return now, true
		case errors.Is(err, etcd.ErrClosed):
			return state{}, false
		}
		k.connected(false, err)
	}
	return state{}, false
}

// watch yields the changes after a state, and keeps it up to date. It returns whether the
// watch was registered, and why it ended; nil if the caller wants no more.
func (k *keyed) watch(at *state, yield func(revision) bool) (registered bool, err error) {
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	for resp := range k.client.Watch(ctx, k.key, etcd.WithRevision(at.revision+1), etcd.WithWatchStatus(), etcd.WithProgressNotify()) {
		switch resp.State {
		case etcd.WatchInterrupted:
			k.connected(false, resp.Cause)
			continue
		case etcd.WatchRegistered, etcd.WatchResumed:
			registered = true
			k.connected(true, nil)
			continue
		}
		if err := resp.Err(); err != nil {
			return registered, err
		}
		k.confirm(time.Now())
		for _, ev := range resp.Events {
			r := revision{ev.Kv.ModRevision, []change{{key: k.key}}}
			delete(at.entries, k.key)
			if ev.Type == etcd.EventPut {
				now := k.entryOf(ev.Kv, ev.Err)
				at.entries[k.key], r.changes[0].now = now, &now
			}
			at.revision = r.number
			if !yield(r) {
				return registered, nil
			}
			if errors.Is(ev.Err, etcd.ErrKeyUnavailable) {
				return registered, ev.Err // read it again until it can be decoded
			}
		}
		at.revision = max(at.revision, resp.Revision)
	}
	return registered, context.Cause(ctx)
}
