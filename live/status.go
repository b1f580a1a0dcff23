package live

import (
	"context"
	"errors"
	"time"
)

// Source says where a configuration comes from.
type Source int

const (
	// FromEtcd says that the configuration was read from etcd.
	FromEtcd Source = iota
	// FromFile says that it was read from the file of [WithLastGood], because etcd could not
	// be reached or had only bad ones since.
	FromFile
)

// String returns "etcd" or "file".
func (s Source) String() string {
	if s == FromFile {
		return "file"
	}
	return "etcd"
}

// Status says how good a configuration is. It is for logs and tests by its fields; for a
// health page print its errors as text, since encoding/json has no form for them.
type Status struct {
	// Source is where the configuration of [Value.Load] comes from.
	Source Source
	// Revision is [Value.Revision].
	Revision int64
	// Since is since when Load returns it.
	Since time.Time
	// Connected reports whether the value follows etcd, as far as is known.
	Connected bool
	// ConnectedSince is since when Connected is as it is.
	ConnectedSince time.Time
	// Confirmed is the last moment at which everything up to then was known; zero if etcd
	// was not reached yet. While Connected it moves on about every second, and where nobody has
	// written anything to the cluster since, about every half of [etcd.Config.RequestTimeout]
	// (see [etcd.WithProgressNotify]).
	Confirmed time.Time
	// Cause is why the value isn't connected; nil if it is.
	Cause error
	// Rejected is [Value.Err].
	Rejected error
	// LastGood is why the file of [WithLastGood] could not be written, a [*LastGoodError];
	// nil if it could, or if there is none. Writing is tried again, at least every minute.
	LastGood error
}

// Err returns what keeps the configuration from being the newest, or nil: that it comes from
// the file, that the value isn't connected, or that the newest was refused. A service can
// run with any of these: they are for its health page, not for its end. In the first moment
// after Open the watch may not be registered yet, which counts as not connected. LastGood is
// not among them: the configuration is the newest, but the next start may lack it.
func (s Status) Err() error {
	var source error
	if s.Source == FromFile {
		source = errFromFile
	}
	return errors.Join(source, s.Cause, s.Rejected)
}

var errFromFile = errors.New("live: the last good configuration is served, from its file")

// Status returns what is known now. It takes no request.
func (v *Value[T]) Status() Status {
	v.mu.Lock()
	s := Status{LastGood: v.fileErr, ConnectedSince: v.absentAt, Cause: v.absent}
	if v.refused != nil {
		s.Rejected = v.refused
	}
	source := v.source
	v.mu.Unlock()
	now := v.current.Load()
	s.Revision, s.Since = now.revision, now.since
	if now.fromFile {
		s.Source = FromFile
	}
	if source != nil {
		c := source.status()
		s.Connected, s.ConnectedSince, s.Confirmed, s.Cause = c.connected, c.since, c.confirmed, c.cause
	}
	if v.ctx.Err() != nil {
		s.Connected, s.Cause = false, context.Cause(v.ctx)
	}
	return s
}
