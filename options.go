package etcd

import "fmt"

var (
	errNilOption   = fmt.Errorf("%w: nil option, or one of a nil function", ErrInvalidArgument)
	errNilFunction = fmt.Errorf("%w: nil function", ErrInvalidArgument)
)

// optionsOf applies opts to o, in order. Every call that takes options uses it, so that
// all of them refuse a nil one. An option made from a nil function is itself nil.
func optionsOf[Option, Options any](opts []Option, o *Options, apply func(Option, *Options)) error {
	for _, opt := range opts {
		if any(opt) == nil {
			return errNilOption
		}
		apply(opt, o)
	}
	return nil
}
