package etcd

// ReencryptOption changes [Client.Reencrypt]: [WithDryRun], [WithResumeAt],
// [WithKeysPerSecond] and [WithReencryptProgress].
type ReencryptOption interface{ applyReencrypt(*reencryptOptions) }

// ReencryptReport says what [Client.Reencrypt] has done so far.
type ReencryptReport struct {
	// Scanned is how many keys were looked at.
	Scanned int64
	// Stale is how many of them were not encrypted the way the primary key does it: with
	// another key, in another suite (see [EncryptionKey.WithPlainGCM]), by the Blueprint
	// provider, or not at all. Each is also counted in one of the next four fields,
	// except those of a batch that failed.
	Stale int64
	// Rewritten is how many stale values are now encrypted with the primary key;
	// with [WithDryRun], how many would be.
	Rewritten int64
	// Conflicts is how many stale values were changed or deleted by another
	// client before they could be rewritten. The other client's value stands.
	Conflicts int64
	// Undecodable is how many values could not be decoded. They are left as they are.
	Undecodable int64
	// TooLarge is how many values would exceed [Config.MaxRequestBytes] when
	// encrypted. They are left as they are.
	TooLarge int64
	// Errors holds a [*DecodeError] for each undecodable value and an [*Error] for each
	// that is too large, at most a hundred together.
	Errors []error
	// Next is the key to resume from with [WithResumeAt]: everything before it is done.
	// It is empty when the pass is complete.
	Next string
}

// reencryptOptions are what options set.
type reencryptOptions struct {
	progress func(ReencryptReport)
	resume   string
	rate     int // keys a second; 0 means no limit
	dryRun   bool
}

// WithReencryptProgress calls f with the report after each batch and after each page
// read, in the goroutine of Reencrypt.
func WithReencryptProgress(f func(ReencryptReport)) ReencryptOption {
	if f == nil {
		return nil
	}
	return reencryptProgressOption(f)
}

type reencryptProgressOption func(ReencryptReport)

func (f reencryptProgressOption) applyReencrypt(o *reencryptOptions) { o.progress = f }
