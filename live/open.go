package live

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/blueprint-go/etcd"
)

// Names of calls, for errors.
const (
	opOpen    = "open configuration"
	opChanges = "changes of configuration"
)

func open[T any](ctx context.Context, client *etcd.Client, name string, document bool, opts []Option) (*Value[T], error) {
	v := &Value[T]{client: client, name: name, document: document, told: make(chan struct{})}
	if err := v.check(ctx, opts); err != nil {
		return nil, v.fail(opOpen, err)
	}
	// Hooks see the caller's values in the context of the watch, but not its end.
	v.ctx, v.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	b, late, err := v.begin(ctx)
	if err != nil {
		v.cancel(err)
		v.end()
		return nil, v.opened(err)
	}
	v.tasks.Go(func() { v.run(b, late) })
	return v, nil
}

func (v *Value[T]) check(ctx context.Context, opts []Option) (err error) {
	switch {
	case ctx == nil:
		return etcd.ErrNilContext
	case v.client.Raw() == nil:
		return fmt.Errorf("%w: nil client, or a zero one", etcd.ErrInvalidArgument)
	}
	if v.settings, err = settingsOf(opts); err != nil {
		return err
	}
	switch {
	case v.document && v.name == "":
		return etcd.ErrEmptyKey
	case v.name == "" && !v.settings.allKeys:
		return etcd.ErrEmptyPrefix
	}
	if v.builder, err = newBuilder[T](v.name, v.document, &v.settings); err != nil {
		return err
	}
	if v.settings.path != "" {
		v.file = &lastGood{client: v.client, path: v.settings.path, place: "/" + v.name}
		if v.document {
			v.file.place = "=" + v.name
		}
		return v.file.check()
	}
	return nil
}

// opened returns the error of a value that could not be opened. That of a request says what
// was opened, and not what was asked for on the way.
func (v *Value[T]) opened(err error) error {
	if failed, ok := err.(*etcd.Error); ok { //nolint:errorlint // one that is joined to others stays
		named := *failed
		named.Op, named.Key = opOpen, v.name
		return &named
	}
	return v.fail(opOpen, err)
}

// feed is what comes from a source after the state that it began with.
type feed struct {
	backlog   *backlog
	revisions iter.Seq[revision]
	unsaved   *state // was taken and isn't in the file
}

// begin finds the first configuration. It returns what follows it, nil if etcd could not be
// reached, and a trial that was not waited for to its end.
func (v *Value[T]) begin(ctx context.Context) (*feed, *trial[T], error) {
	first, revisions, err := v.connect(ctx)
	if err != nil {
		if v.file == nil || !isOutage(ctx, err) {
			return nil, nil, err
		}
		v.missing(err)
		return nil, nil, v.serveFile(ctx, err)
	}
	f := &feed{backlog: newBacklog(first, true), revisions: revisions}
	t := v.builder.begin(first)
	if err := v.await(ctx, t); err != nil {
		return nil, nil, err
	}
	late, why := t, &RejectedError{Revision: first.revision, Err: ErrValidateTimeout}
	if t.isOver() {
		late, why = nil, t.err
	}
	if why == nil {
		v.take(first.revision, t.value, false)
		if !v.save(ctx, first) {
			f.unsaved = &first
		}
		return f, nil, nil
	}
	v.refuse(why)
	if v.file == nil {
		return nil, nil, why
	}
	return f, late, v.serveFile(ctx, why)
}

// isOutage reports whether a file may stand in for etcd after err: not for a caller who has
// left, and not for what is wrong with the call itself.
func isOutage(ctx context.Context, err error) bool {
	for _, own := range []error{etcd.ErrClosed, etcd.ErrInvalidArgument, etcd.ErrTooLarge, etcd.ErrEmptyPrefix, etcd.ErrEmptyKey} {
		if errors.Is(err, own) {
			return false
		}
	}
	return ctx.Err() == nil
}

// connect reaches etcd. If a file may be read instead, it leaves time for that, and no
// request gets more than Config.RequestTimeout, which only one without a deadline does.
func (v *Value[T]) connect(ctx context.Context) (state, iter.Seq[revision], error) {
	if v.file != nil {
		free, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		if deadline, ok := ctx.Deadline(); ok {
			defer time.AfterFunc(time.Until(deadline)/2, cancel).Stop()
		}
		ctx = free
	}
	follow := followPrefix(v.ctx, v.client, v.name, v.settings.allKeys)
	if v.document {
		follow = followKey(v.ctx, v.client, v.name)
	}
	source, first, revisions, err := follow(ctx)
	if err != nil {
		return state{}, nil, err
	}
	v.mu.Lock()
	v.source, v.absent = source, nil
	v.mu.Unlock()
	return first, revisions, nil
}

// missing notes why etcd could not be reached.
func (v *Value[T]) missing(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.absent == nil {
		v.absentAt = time.Now()
	}
	v.absent = err
}

// serveFile takes the configuration in the file. why is why it is needed.
func (v *Value[T]) serveFile(ctx context.Context, why error) error {
	s, err := v.file.read(ctx)
	if err != nil {
		return errors.Join(why, err)
	}
	t := v.builder.begin(s)
	if err := v.await(ctx, t); err != nil {
		return err
	}
	if !t.isOver() {
		return errors.Join(why, v.file.fail("read", &RejectedError{Revision: s.revision, Err: ErrValidateTimeout}))
	}
	if t.err != nil {
		return errors.Join(why, v.file.fail("read", t.err))
	}
	v.take(s.revision, t.value, true)
	return nil
}

// await waits for a trial, but no longer than the settings say. The error is that of a
// context that has ended.
func (v *Value[T]) await(ctx context.Context, t *trial[T]) error {
	timer := time.NewTimer(v.settings.timeout)
	defer timer.Stop()
	select {
	case <-t.done:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (t *trial[T]) isOver() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// end ends the source.
func (v *Value[T]) end() {
	v.mu.Lock()
	s := v.source
	v.mu.Unlock()
	if s != nil {
		s.close()
	}
}
