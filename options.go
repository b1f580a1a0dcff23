package etcd

import "fmt"

var (
	errNilOption   = fmt.Errorf("%w: nil option, or one of a nil function", ErrInvalidArgument)
	errNilFunction = fmt.Errorf("%w: nil function", ErrInvalidArgument)
)

// optionsOf applies opts to o, in their order. Every call that takes options comes
// here, so that each of them refuses a nil one. An option of a nil function is nil
// from the beginning.
func optionsOf[Option, Options any](opts []Option, o *Options, apply func(Option, *Options)) error {
	for _, opt := range opts {
		if any(opt) == nil {
			return errNilOption
		}
		apply(opt, o)
	}
	return nil
}
