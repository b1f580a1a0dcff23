package etcd

// WriteOption is an option for every call that writes keys, except [Client.Reencrypt]:
// [WithResult]. The operations of a transaction refuse it; use [TxnResult] there.
type WriteOption interface {
	PutOption
	DeleteOption
	DeletePrefixOption
	UpdateOption
	MoveOption
	TransactOption
	BulkPutOption
	BulkDeleteOption
	LoadOption
	ImportOption
}

// PrevKVOption is an option for writes of one key and for watches: [WithPrevKV].
type PrevKVOption interface {
	PutOption
	DeleteOption
	UpdateOption
	WatchOption
}

// WithPrevKV asks for the key-value before the change: for each event of a watch
// ([Event.PrevKv], nil when it was compacted), for a write [WithResult]
// ([WriteResult.PrevKV]; without WithResult it is refused with [ErrInvalidArgument]), and
// for a put or a delete in a transaction ([OpResult.PrevKV]). The user must be allowed to
// read the key.
func WithPrevKV() PrevKVOption { return prevKVOption{} }

// WithResult sets result to what the write returns about itself. It costs no further
// round trip. A nil result is refused with [ErrInvalidArgument].
func WithResult(result *WriteResult) WriteOption {
	if result == nil {
		return nil // refused like any nil option
	}
	*result = WriteResult{} // even if the call fails
	return resultOption{result}
}

type prevKVOption struct{}

func (prevKVOption) applyDelete(o *deleteOptions) { o.prevKV = true }

func (prevKVOption) applyPut(o *putOptions) { o.prevKV = true }

func (prevKVOption) applyUpdate(o *writeOptions) { o.prevKV = true }

func (prevKVOption) applyWatch(o *watchOptions) { o.prevKV = true }

type resultOption struct{ result *WriteResult }

func (r resultOption) apply(o *writeOptions) {
	*r.result = WriteResult{} // an option may be used for several calls
	o.result = r.result
}

func (r resultOption) applyBulkDelete(o *bulkOptions) { r.apply(&o.put.writeOptions) }

func (r resultOption) applyBulkPut(o *bulkOptions) { r.apply(&o.put.writeOptions) }

func (r resultOption) applyDelete(o *deleteOptions) { r.apply(&o.writeOptions) }

func (r resultOption) applyDeletePrefix(o *deleteOptions) { r.apply(&o.writeOptions) }

func (r resultOption) applyImport(o *importOptions) { r.apply(&o.writeOptions) }

func (r resultOption) applyLoad(o *bulkOptions) { r.apply(&o.put.writeOptions) }

func (r resultOption) applyMove(o *moveOptions) { r.apply(&o.writeOptions) }

func (r resultOption) applyPut(o *putOptions) { r.apply(&o.writeOptions) }

func (r resultOption) applyTransact(o *transactOptions) { r.apply(&o.writeOptions) }

func (r resultOption) applyUpdate(o *writeOptions) { r.apply(o) }
