package mirror

import (
	"fmt"

	"github.com/blueprint-go/etcd"
)

// ChangesOption changes [Mirror.Changes] and [Typed.Changes]. The options are
// [WithExisting], [WithExpiry] and [WithChangesBuffer].
type ChangesOption interface{ applyChanges(*changesOptions) }

type changesOptions struct {
	existing bool
	expiry   bool
	buffer   int
}

// DefaultChangesBuffer is the limit of [WithChangesBuffer] unless that is given: 4 MiB.
const DefaultChangesBuffer = 4 << 20

func (o changesOptions) check() error {
	if o.buffer <= 0 {
		return fmt.Errorf("%w: buffer of %d bytes", etcd.ErrInvalidArgument, o.buffer)
	}
	return nil
}

type existingOption struct{}

func (existingOption) applyChanges(o *changesOptions) { o.existing = true }

// WithExisting begins with the keys that exist when the loop begins, each as [Created], in
// order and at one revision.
func WithExisting() ChangesOption { return existingOption{} }

type expiryOption struct{}

func (expiryOption) applyChanges(o *changesOptions) { o.expiry = true }

// WithExpiry tells keys that went with their lease from keys that were deleted: see
// [Change].Expired. For each revision it takes a round trip for each lease that deleted
// keys were attached to, before these changes are returned.
func WithExpiry() ChangesOption { return expiryOption{} }

type bufferOption int

func (b bufferOption) applyChanges(o *changesOptions) { o.buffer = int(b) }

// WithChangesBuffer bounds the changes that wait for a reader, in bytes of keys and values,
// old and new, and 256 bytes for each change. A batch from the server, of about 1 MiB or
// one revision, is never divided: one may wait whatever its size. Zero and less are
// refused. Where nothing else has happened to the values since, the mirror holds the new
// ones anyway.
func WithChangesBuffer(bytes int) ChangesOption { return bufferOption(bytes) }
