package mirror

import (
	"fmt"

	"github.com/blueprint-go/etcd"
)

// Option changes [Open] and [OpenTyped]. The only option is [WithAllKeys].
type Option interface{ applyOpen(*options) }

type options struct{ allKeys bool }

type allKeysOption struct{}

func (allKeysOption) applyOpen(o *options) { o.allKeys = true }

// WithAllKeys says that you mean an empty prefix: every key of the cluster, or of the
// namespace.
func WithAllKeys() Option { return allKeysOption{} }

var errNilOption = fmt.Errorf("%w: nil option", etcd.ErrInvalidArgument)

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
