package etcd

// ScanOption changes [Client.Scan], [Typed.All] and [Typed.List]. The options are
// [WithRevision], [WithSerializable], [WithLimit], [WithFromKey], [WithReverse] and, for
// [Client.Scan], [WithKeysOnly].
type ScanOption interface{ applyScan(*scanOptions) }

type scanOptions struct {
	getOptions
	keysOnly bool
	reverse  bool
	from     string
}

// WithFromKey begins at a key, including it if it exists; to go on after a key, add
// "\x00" to it. With [WithReverse] the scan goes down from there. It doesn't widen the
// scan: keys without the prefix are left out. The empty key changes nothing.
func WithFromKey(key string) ScanOption { return fromKeyOption(key) }

type fromKeyOption string

func (k fromKeyOption) applyScan(o *scanOptions) { o.from = string(k) }

// WithKeysOnly reads no values: [KeyValue.Value] is nil. A server of version 3.7 leaves
// out the lease too: [KeyValue.Lease] is 0.
func WithKeysOnly() ScanOption { return keysOnlyOption{} }

type keysOnlyOption struct{}

func (keysOnlyOption) applyScan(o *scanOptions) { o.keysOnly = true }

// WithReverse scans from the last key to the first. The server can't page in that order.
// So all keys under the prefix are read once, in their own order and without values,
// before the first one comes.
func WithReverse() ScanOption { return reverseOption{} }

type reverseOption struct{}

func (reverseOption) applyScan(o *scanOptions) { o.reverse = true }
