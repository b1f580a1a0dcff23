package etcd

// ExportOption changes a [Client.Export]: [WithDecryptedValues],
// [WithUndecodableAsStored], [WithoutLeaseTTLs] and [WithRevision].
type ExportOption interface{ applyExport(*exportOptions) }

// WithDecryptedValues exports the values themselves instead of what is stored: the file
// holds in the clear everything that encryption hides from readers. Such a file can be
// imported with other encryption keys, into another namespace and under another prefix.
func WithDecryptedValues() ExportOption {
	return exportOption(func(o *exportOptions) { o.decrypted = true })
}

// WithUndecodableAsStored makes an export of decrypted values include undecodable values
// as they are stored, marked as such, instead of failing. An import must be able to open
// them, or leave them out ([WithoutUndecodable]).
func WithUndecodableAsStored() ExportOption {
	return exportOption(func(o *exportOptions) { o.asStored = true })
}

// WithoutLeaseTTLs records only which lease a key has, and saves the round trip for its
// time to live. Such a file can be imported [WithoutLeases] or [WithoutLeasedKeys].
func WithoutLeaseTTLs() ExportOption {
	return exportOption(func(o *exportOptions) { o.noTTLs = true })
}

type exportOption func(*exportOptions)

func (f exportOption) applyExport(o *exportOptions) { f(o) }

type exportOptions struct {
	revision  int64
	decrypted bool
	asStored  bool // undecodable values as stored
	noTTLs    bool
}
