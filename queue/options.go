package queue

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/blueprint-go/etcd"
)

const (
	// DefaultVisibility is how long a job stays claimed after its consumer was last heard
	// of, unless [WithVisibility] says otherwise.
	DefaultVisibility = etcd.DefaultLockTTL

	// DefaultMaxAttempts is how often a job is tried before it is moved to the dead ones,
	// unless [WithMaxAttempts] says otherwise.
	DefaultMaxAttempts = 25

	// MaxPriority is the highest priority of a job.
	MaxPriority = 9

	// MinPriority is the lowest priority of a job, and the default.
	MinPriority = 0
)

// Option changes [Open]. The options are [WithVisibility], [WithMaxAttempts], [WithCapacity],
// [WithEncoding] and [WithLogger].
type Option interface{ applyOpen(*options) }

type options struct {
	visibility  time.Duration
	maxAttempts int
	capacity    int64
	encoding    any // etcd.Encoding[T]
	logger      *slog.Logger
	problem     error // the first bad argument of an option
}

func (o *options) refuse(format string, args ...any) {
	if o.problem == nil {
		o.problem = fmt.Errorf("%w: "+format, append([]any{etcd.ErrInvalidArgument}, args...)...)
	}
}

type optionFunc func(*options)

func (f optionFunc) applyOpen(o *options) { f(o) }

// WithVisibility sets the time to live of the lease that this consumer's claims hang on: how
// long a job is invisible to others after the consumer died, was paused or cut off. As long as
// the consumer lives the lease is renewed, however long a job takes. Fractions of a second are
// rounded up, and the server may grant more; what it can't grant fails the first
// [Queue.Pop] with [etcd.ErrInvalidTTL].
func WithVisibility(ttl time.Duration) Option {
	return optionFunc(func(o *options) {
		if ttl <= 0 {
			o.refuse("visibility of %v", ttl)
		}
		o.visibility = ttl
	})
}

// WithMaxAttempts sets how often a job is tried. One whose last attempt fails or is lost is
// moved to the dead ones ([Queue.Dead]) instead of waiting for another. Zero means no limit.
// All consumers of a queue should agree: the one that ends an attempt decides.
func WithMaxAttempts(n int) Option {
	return optionFunc(func(o *options) {
		if n < 0 || n > math.MaxInt32 {
			o.refuse("%d attempts at most", n)
		}
		if n == 0 {
			n = math.MaxInt32
		}
		o.maxAttempts = n
	})
}

// WithCapacity bounds how many jobs the queue holds: those that wait, that are delayed, under
// way and dead. A push beyond that fails with [ErrFull]. The bound is exact if every process
// that pushes sets the same one. It makes pushes take turns: a push that met another one is
// tried again, so that many processes that push at once are slower than without a bound. Zero,
// the default, means no bound.
func WithCapacity(n int) Option {
	return optionFunc(func(o *options) {
		if n < 0 {
			o.refuse("capacity of %d", n)
		}
		o.capacity = int64(n)
	})
}

// WithEncoding sets how jobs become bytes; JSON if it isn't given. T must be the type of the
// queue.
func WithEncoding[T any](encoding etcd.Encoding[T]) Option {
	return optionFunc(func(o *options) {
		if encoding == nil {
			o.refuse("nil encoding")
		}
		o.encoding = encoding
	})
}

// WithLogger sets where the queue tells what no error can carry: that a job was moved to the
// dead ones (a warning), that a claim was lost (a warning), and that a job whose consumer was
// lost waits again (information). It never logs a value. Nil means [slog.Default].
func WithLogger(logger *slog.Logger) Option {
	return optionFunc(func(o *options) { o.logger = logger })
}

// optionsOf applies opts in order, and refuses a nil one.
func optionsOf(opts []Option) (options, error) {
	o := options{visibility: DefaultVisibility, maxAttempts: DefaultMaxAttempts}
	for _, opt := range opts {
		if opt == nil {
			return o, errNilOption
		}
		opt.applyOpen(&o)
	}
	if o.logger == nil {
		o.logger = slog.Default()
	}
	return o, o.problem
}

var errNilOption = fmt.Errorf("%w: nil option", etcd.ErrInvalidArgument)

// PushOption changes [Queue.Push] and [Queue.PushOps]. The options are [WithPriority] and
// [WithDelay].
type PushOption interface{ applyPush(*pushOptions) }

type pushOptions struct {
	priority int
	delay    time.Duration
	problem  error
}

type pushOptionFunc func(*pushOptions)

func (f pushOptionFunc) applyPush(o *pushOptions) { f(o) }

// WithPriority has the job taken before all that are due and have a lower priority, and after
// those with a higher one. It is from 0, the default, to 9 ([MinPriority], [MaxPriority]).
func WithPriority(n int) PushOption {
	return pushOptionFunc(func(o *pushOptions) {
		if n < MinPriority || n > MaxPriority {
			o.problem = fmt.Errorf("%w: priority %d", etcd.ErrInvalidArgument, n)
		}
		o.priority = n
	})
}

// WithDelay has the job wait for a time before a consumer may take it. That time is counted
// from the push by this machine's clock, and its end is noticed by the clocks of the consumers.
// Zero means no delay.
func WithDelay(d time.Duration) PushOption {
	return pushOptionFunc(func(o *pushOptions) {
		if d < 0 {
			o.problem = fmt.Errorf("%w: delay of %v", etcd.ErrInvalidArgument, d)
		}
		o.delay = d
	})
}

func pushOptionsOf(opts []PushOption) (pushOptions, error) {
	var o pushOptions
	for _, opt := range opts {
		if opt == nil {
			return o, errNilOption
		}
		if opt.applyPush(&o); o.problem != nil {
			return o, o.problem
		}
	}
	return o, nil
}
