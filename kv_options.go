package etcd

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

func deleteOptionsOf(opts []DeleteOption) (deleteOptions, error) {
	if len(opts) == 0 {
		return deleteOptions{}, nil // the common case; below, o is moved to the heap
	}
	var o deleteOptions
	err := optionsOf(opts, &o, DeleteOption.applyDelete)
	return o, err
}

// PutOption changes a single put: [Client.Put], [OpPut] and similar calls. The options
// are [WithLease], [WithIgnoreLease], [WithResult], [WithPrevKV], [WithCondition] and,
// where the call says so, [WithGuard].
type PutOption interface{ applyPut(*putOptions) }

// GetOption changes a single read or list: [Client.Get], [Client.List], [OpGet] and
// similar calls. The options are [WithRevision], [WithSerializable] and [WithLimit].
type GetOption interface{ applyGet(*getOptions) }

// DeleteOption changes the deletion of one key: [Client.Delete],
// [Client.CompareAndDelete], [OpDelete] and similar calls. The options are [WithResult],
// [WithPrevKV] and [WithCondition].
type DeleteOption interface{ applyDelete(*deleteOptions) }

// DeletePrefixOption changes [Client.DeletePrefix], [OpDeletePrefix] and [OpDeleteRange]:
// [WithAllKeys] and, only for DeletePrefix, [InChunks], [WithCondition] and [WithResult].
type DeletePrefixOption interface{ applyDeletePrefix(*deleteOptions) }

// UpdateOption changes a [Client.Update]: [WithResult], [WithPrevKV] and [WithCondition].
type UpdateOption interface{ applyUpdate(*writeOptions) }

type putOptions struct {
	writeOptions
	lease       LeaseID
	ignoreLease bool
	guarded     bool
}

func putOptionsOf(opts []PutOption) (putOptions, error) {
	if len(opts) == 0 {
		return putOptions{}, nil // the common case; below, o is moved to the heap
	}
	var o putOptions
	err := optionsOf(opts, &o, PutOption.applyPut)
	return o, err
}

type getOptions struct {
	revision     int64
	serializable bool
	limit        int64
}

func getOptionsOf(opts []GetOption) (getOptions, error) {
	if len(opts) == 0 {
		return getOptions{}, nil // the common case; below, o is moved to the heap
	}
	var o getOptions
	if err := optionsOf(opts, &o, GetOption.applyGet); err != nil {
		return o, err
	}
	return o, o.check()
}

func (o getOptions) check() error {
	if o.revision < 0 || o.limit < 0 {
		return fmt.Errorf("%w: negative revision or limit", ErrInvalidArgument)
	}
	return nil
}

// rangeRequest returns the read of r with these options.
func (o getOptions) rangeRequest(r keys.Range) *pb.RangeRequest {
	return &pb.RangeRequest{Key: r.Start, RangeEnd: r.End, Revision: o.revision, Serializable: o.serializable, Limit: o.limit}
}

type deleteOptions struct {
	writeOptions
	allKeys bool
	chunked bool
	chunks  chunkOptions
}

type guardOption struct{}

func (guardOption) applyPut(o *putOptions) { o.guarded = true }

// WithGuard makes a put safe to repeat: it is bound to the key's mod revision, which is
// read first (a second round trip). A request that arrives late or twice finds another
// revision and changes nothing. If the key changes in between, the put is bound anew; it
// fails with [ErrConflict] if the key still keeps changing at the deadline.
//
// A key that never existed looks like one that was deleted, so the creation of a key is
// sent once. If its answer is lost, the put looks for it, as [Client.Settle] does.
// Without encryption, what it finds may be somebody else's: then the put fails, and
// [MaybeApplied] reports true.
//
// [Client.Put], [Client.PutWithLease] and [Typed.Put] take it. Other calls refuse it with
// [ErrInvalidArgument]: a comparison is guarded already, see [Client.Settle].
func WithGuard() PutOption { return guardOption{} }

func deletePrefixOptionsOf(opts []DeletePrefixOption) (deleteOptions, error) {
	if len(opts) == 0 {
		return deleteOptions{}, nil
	}
	o := deleteOptions{chunks: defaultChunks()}
	err := optionsOf(opts, &o, DeletePrefixOption.applyDeletePrefix)
	return o, err
}

func (o deleteOptions) checkPrefix(prefix string) error {
	if prefix == "" && !o.allKeys {
		return ErrEmptyPrefix
	}
	if err := o.check(); err != nil || !o.chunked {
		return err
	}
	return o.chunks.check()
}

func updateOptionsOf(opts []UpdateOption) (writeOptions, error) {
	if len(opts) == 0 {
		return writeOptions{}, nil // the common case; below, o is moved to the heap
	}
	var o writeOptions
	if err := optionsOf(opts, &o, UpdateOption.applyUpdate); err != nil {
		return o, err
	}
	return o, o.check()
}
