package barrier

import (
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

// Option changes [New] and [NewDouble]. The options are [WithTTL] and [WithSession].
type Option interface{ apply(*options) }

type options struct {
	ttl     time.Duration
	session *etcd.Session
	problem error
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// WithTTL sets the time to live of the lease that is granted for each hold or entry: how long it
// takes at most until others notice that this process is lost. The default is
// [etcd.DefaultLockTTL].
func WithTTL(ttl time.Duration) Option {
	return optionFunc(func(o *options) {
		if ttl <= 0 {
			o.problem = etcd.ErrInvalidTTL
		}
		o.ttl = ttl
	})
}

// WithSession has holds and entries hang on a session that others use too, instead of a lease of
// their own: they are lost together with it. It is not closed here. A nil session, one of another
// client, and [WithTTL] beside it are refused with [etcd.ErrInvalidArgument].
func WithSession(s *etcd.Session) Option {
	return optionFunc(func(o *options) {
		if s == nil {
			o.problem = fmt.Errorf("%w: nil session", etcd.ErrInvalidArgument)
		}
		o.session = s
	})
}

func optionsOf(opts []Option) (options, error) {
	var o options
	for _, opt := range opts {
		if opt == nil {
			return o, fmt.Errorf("%w: nil option", etcd.ErrInvalidArgument)
		}
		opt.apply(&o)
	}
	switch {
	case o.problem != nil:
		return o, o.problem
	case o.session != nil && o.ttl != 0:
		return o, fmt.Errorf("%w: WithTTL beside WithSession", etcd.ErrInvalidArgument)
	case o.ttl == 0:
		o.ttl = etcd.DefaultLockTTL
	}
	return o, nil
}
