package live

import (
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

// DefaultValidateTimeout is how long a configuration may take to be made and validated,
// unless [WithValidateTimeout] says otherwise.
const DefaultValidateTimeout = 5 * time.Second

// Option changes [Open] and [OpenDocument]. The options are [WithDefaults],
// [WithValidate], [WithValidateTimeout], [WithStrict], [WithDebounce] and [WithLastGood],
// for Open [WithAllKeys], and for OpenDocument [WithUnmarshal].
type Option interface{ apply(*settings) }

type settings struct {
	defaults  any // func() T
	validate  any // func(*T) error
	timeout   time.Duration
	strict    bool
	debounce  time.Duration
	path      string // of the last good configuration; empty for none
	allKeys   bool
	unmarshal func([]byte) (map[string]any, error)

	problem error // the first bad argument of an option
}

func (s *settings) refuse(format string, args ...any) {
	if s.problem == nil {
		s.problem = fmt.Errorf("%w: "+format, append([]any{etcd.ErrInvalidArgument}, args...)...)
	}
}

// optionFunc is an option. One that is made from a nil function is nil itself, and
// refused like any nil option.
type optionFunc func(*settings)

func (f optionFunc) apply(s *settings) { f(s) }

// settingsOf applies the options in order.
func settingsOf(opts []Option) (settings, error) {
	s := settings{timeout: DefaultValidateTimeout}
	for _, opt := range opts {
		if opt == nil {
			return s, fmt.Errorf("%w: nil option, or one of a nil function", etcd.ErrInvalidArgument)
		}
		opt.apply(&s)
	}
	return s, s.problem
}

// WithDefaults sets the function that returns what a configuration is before keys fill it.
// A field without a key keeps its default; a slice, map or pointer that has keys is
// replaced as a whole. f is called for every configuration, and what it returns belongs to
// that configuration. T must be the type of the configuration.
//
// With defaults, a prefix without keys is a configuration; without them it isn't.
func WithDefaults[T any](f func() T) Option {
	if f == nil {
		return nil
	}
	return optionFunc(func(s *settings) { s.defaults = f })
}

// WithValidate sets the function that judges a configuration as a whole. One with an error
// is never taken. It may complete the configuration, such as by fields that depend on
// others, but not keep or change it after it has returned. T must be the type of the
// configuration.
//
// One call runs at a time, in a goroutine of its own. A panic counts as an error. See
// [WithValidateTimeout] for one that blocks. Its error appears in the text of
// [RejectedError], so it had better hold no secret.
func WithValidate[T any](f func(*T) error) Option {
	if f == nil {
		return nil
	}
	return optionFunc(func(s *settings) { s.validate = f })
}

// WithValidateTimeout sets how long it may take to make and validate a configuration,
// together; the default is [DefaultValidateTimeout]. Then it counts as refused with
// [ErrValidateTimeout], until the function returns after all. Nothing can end a function
// that blocks: while it does, no other configuration can be judged, and the last good one
// is served. d must be positive.
func WithValidateTimeout(d time.Duration) Option {
	return optionFunc(func(s *settings) {
		if d <= 0 {
			s.refuse("validate timeout of %v", d)
		}
		s.timeout = d
	})
}

// WithStrict refuses a configuration with keys, or names in a document, that name no field.
// By default they are ignored, so that an older version of a program runs with the keys of
// a newer one.
func WithStrict() Option { return optionFunc(func(s *settings) { s.strict = true }) }

// WithDebounce has changes that follow one another within d count as one: what is judged is
// what they lead to. It waits until d has passed without a change, at most ten times d. It
// is for writers that change several keys one by one; those that use a transaction need
// none. Zero, the default, waits for nothing; negative durations are refused.
func WithDebounce(d time.Duration) Option {
	return optionFunc(func(s *settings) {
		if d < 0 {
			s.refuse("debounce of %v", d)
		}
		s.debounce = d
	})
}

// WithLastGood keeps the last good configuration in a file, and serves it when etcd can't
// be reached at the start or has only a bad configuration, see [Open]. Without its folder Open
// fails with [etcd.ErrInvalidArgument]. A file that can't be written otherwise fails nothing,
// since the configuration itself is good: only [Status.LastGood] tells, so check it where the
// service starts, or on its health page.
//
// The file is sealed by [etcd.Client.Seal], so it is encrypted where the client encrypts
// values under the prefix, bound to the prefix and the namespace, and plain where it
// doesn't. It is replaced as a whole, with mode 0600, after each configuration that is
// taken. It takes no part in a rotation of keys: one that was sealed with a retired key
// can't be read.
func WithLastGood(path string) Option {
	return optionFunc(func(s *settings) {
		if path == "" {
			s.refuse("empty path of the last good configuration")
		}
		s.path = path
	})
}

// WithAllKeys allows an empty prefix, which is all keys of the client's namespace.
func WithAllKeys() Option { return optionFunc(func(s *settings) { s.allKeys = true }) }

// WithUnmarshal sets the function that parses a document; the default takes JSON. It must
// not keep data. Its error doesn't appear in any text, since such errors quote the document;
// errors.As and errors.Is reach it.
func WithUnmarshal(f func(data []byte) (map[string]any, error)) Option {
	if f == nil {
		return nil
	}
	return optionFunc(func(s *settings) { s.unmarshal = f })
}
