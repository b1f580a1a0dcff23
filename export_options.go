package etcd

// ExportOption changes a [Client.Export]. They are [WithDecryptedValues],
// [WithUndecodableAsStored], [WithoutLeaseTTLs] and [WithRevision].
type ExportOption interface{ applyExport(*exportOptions) }

// WithDecryptedValues exports the values themselves instead of what is stored:
// everything that encryption keeps from readers is in the file in the clear. Such
// a file can be imported under other keys of encryption, into another namespace
// and under another prefix.
func WithDecryptedValues() ExportOption {
	return exportOption(func(o *exportOptions) { o.decrypted = true })
}

// WithUndecodableAsStored has an export of decrypted values hold what can't be
// decoded as it is stored, marked as such, instead of failing. An import has to
// open it, or leave it out ([WithoutUndecodable]).
func WithUndecodableAsStored() ExportOption {
	return exportOption(func(o *exportOptions) { o.asStored = true })
}

// WithoutLeaseTTLs notes of a lease only which one it is, and spares the round
// trip for its time to live. Such a file can be imported [WithoutLeases] or
// [WithoutLeasedKeys].
func WithoutLeaseTTLs() ExportOption {
	return exportOption(func(o *exportOptions) { o.noTTLs = true })
}

type exportOption func(*exportOptions)

func (f exportOption) applyExport(o *exportOptions) { f(o) }

type exportOptions struct {
	revision  int64
	decrypted bool
	asStored  bool // what can't be decoded
	noTTLs    bool
}
