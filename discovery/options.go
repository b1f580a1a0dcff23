package discovery

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/blueprint-go/etcd"
)

// RegisterOption changes [Register]: [WithPrefix], [WithTTL], [WithSession], [WithBackground]
// and [WithLogger].
type RegisterOption interface{ applyRegister(*registerOptions) }

// LookupOption changes [Instances] and [Watch]: [WithPrefix] and, for Watch only, [WithWarm].
type LookupOption interface{ applyLookup(*lookupOptions) }

// PrefixOption is an option for registering and for finding: [WithPrefix].
type PrefixOption interface {
	RegisterOption
	LookupOption
}

type registerOptions struct {
	prefix     string
	ttl        time.Duration
	ttlSet     bool
	session    *etcd.Session
	background bool
	logger     *slog.Logger
}

func (o registerOptions) check() error {
	switch {
	case o.session != nil && o.ttlSet:
		return fmt.Errorf("%w: WithTTL and WithSession, which has its own time to live", etcd.ErrInvalidArgument)
	case o.ttl <= 0:
		return fmt.Errorf("%w: %v", etcd.ErrInvalidTTL, o.ttl)
	}
	return nil
}

type lookupOptions struct {
	prefix string
	warm   time.Duration
}

type prefixOption string

func (p prefixOption) applyRegister(o *registerOptions) { o.prefix = string(p) }

func (p prefixOption) applyLookup(o *lookupOptions) { o.prefix = string(p) }

// WithPrefix sets what the keys of all services begin with, before the name of the service. It
// is used unchanged, and may be empty. The default is [DefaultPrefix].
func WithPrefix(prefix string) PrefixOption { return prefixOption(prefix) }

type registerFunc func(*registerOptions)

func (f registerFunc) applyRegister(o *registerOptions) { f(o) }

// WithTTL sets the time to live of the lease, in whole seconds (rounded up; the server may raise
// it, see [etcd.Client.Grant]): how long an instance can still be found after its process has
// died. The default is [etcd.DefaultLockTTL]. Registrations of one client with the same time
// share a lease.
func WithTTL(ttl time.Duration) RegisterOption {
	return registerFunc(func(o *registerOptions) { o.ttl, o.ttlSet = ttl, true })
}

// WithSession attaches the registration to the lease of a session, so that both go together
// when the process dies. If the session is lost, the registration goes on with the lease that
// it would have without this option; if it is closed, the registration ends. A nil session is
// refused, one of another client, and WithTTL beside it, with [etcd.ErrInvalidArgument].
func WithSession(s *etcd.Session) RegisterOption {
	if s == nil {
		return nil // refused like any nil option
	}
	return registerFunc(func(o *registerOptions) { o.session = s })
}

// WithBackground has [Register] return at once and register in the background, for as long as
// it takes: for services that start while etcd is away, or while the lease of their predecessor
// with the same id has yet to end. [Registration.Status] says how far it is. A guarded context
// ([etcd.Lock.Guard]) is refused with [etcd.ErrInvalidArgument], since nobody would learn that its
// lock was lost; give [etcd.Unguarded] of it where the registration needs no lock.
func WithBackground() RegisterOption {
	return registerFunc(func(o *registerOptions) { o.background = true })
}

// WithLogger sets where a registration reports what becomes of it: at level Info that it is
// registered, at level Warn that it is not, and why. It logs no value. The default is
// [slog.Default].
func WithLogger(l *slog.Logger) RegisterOption {
	if l == nil {
		return nil
	}
	return registerFunc(func(o *registerOptions) { o.logger = l })
}

type warmOption time.Duration

func (d warmOption) applyLookup(o *lookupOptions) { o.warm = time.Duration(d) }

// WithWarm keeps the instances in memory and up to date for d after the end of a loop over
// [Watch], so that one that begins meanwhile has them without a request, even while etcd is
// away. The default is 0; negative durations are refused. The end of the client ends it too.
func WithWarm(d time.Duration) LookupOption { return warmOption(d) }

var errNilOption = fmt.Errorf("%w: nil option, or one of a nil argument", etcd.ErrInvalidArgument)

// optionsOf applies opts to o, in order, and refuses a nil one.
func optionsOf[Option, Options any](opts []Option, o *Options, apply func(Option, *Options)) error {
	for _, opt := range opts {
		if any(opt) == nil {
			return errNilOption
		}
		apply(opt, o)
	}
	return nil
}

func lookupOptionsOf(opts []LookupOption) (lookupOptions, error) {
	o := lookupOptions{prefix: DefaultPrefix}
	err := optionsOf(opts, &o, LookupOption.applyLookup)
	if err == nil && o.warm < 0 {
		err = fmt.Errorf("%w: negative duration", etcd.ErrInvalidArgument)
	}
	return o, err
}
