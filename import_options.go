package etcd

// ImportReport says what [Client.Import] has done so far.
type ImportReport struct {
	// Revision is that of the export.
	Revision int64
	// Keys is how many keys of the file were read.
	Keys int64
	// Written is how many are certainly stored; with [WithDryRun], how many would
	// be.
	Written int64
	// Existing is how many were left alone, by [WithOnlyMissing].
	Existing int64
	// LeftOut is how many were not meant to be written: by [WithoutLeasedKeys], by
	// [WithoutUndecodable], or because their lease had ended when they were exported.
	LeftOut int64
	// Leases are the leases that were granted, by those in the file.
	Leases map[LeaseID]LeaseID
	// Next is the key of the file to resume from with [WithResumeAt]: all before it
	// is done. It is empty when nothing is, and when all is.
	Next string
}

// ImportOption changes a [Client.Import]. They are
//   - for which keys: [WithNewPrefix], [WithOnlyMissing], [WithEmptyTarget],
//     [WithoutUndecodable];
//   - for leases: [WithoutLeases], [WithoutLeasedKeys];
//   - for the run: [WithDryRun], [WithResumeAt], [WithImportProgress],
//     [WithParallelism], [WithChunkKeys], [WithKeysPerSecond], [WithResult].
type ImportOption interface{ applyImport(*importOptions) }

type importOptions struct {
	writeOptions
	prefix        *string // nil is that of the file
	leases        leasePolicy
	onlyMissing   bool
	emptyTarget   bool
	noUndecodable bool
	dryRun        bool
	resume        string
	progress      func(ImportReport)
	chunks        chunkOptions
}

// leasePolicy is what an import does with keys that had a lease.
type leasePolicy int

const (
	grantLeases leasePolicy = iota
	dropLeases
	dropLeasedKeys
)

func importOptionsOf(opts []ImportOption) (importOptions, error) {
	o := importOptions{chunks: defaultChunks()}
	if err := optionsOf(opts, &o, ImportOption.applyImport); err != nil {
		return o, err
	}
	if err := o.check(); err != nil {
		return o, err
	}
	return o, o.chunks.check()
}

type importOption func(*importOptions)

func (f importOption) applyImport(o *importOptions) { f(o) }

// WithNewPrefix puts the keys under another prefix: it takes the place of the one
// that was exported. Values as stored don't open anywhere else, so that this is for
// decrypted exports.
func WithNewPrefix(prefix string) ImportOption {
	return importOption(func(o *importOptions) { o.prefix = &prefix })
}

// WithoutLeases imports keys that had a lease without one: they stay for good.
// Registrations of services and claims of locks are such keys.
func WithoutLeases() ImportOption {
	return importOption(func(o *importOptions) { o.leases = dropLeases })
}

// WithoutLeasedKeys leaves out the keys that had a lease.
func WithoutLeasedKeys() ImportOption {
	return importOption(func(o *importOptions) { o.leases = dropLeasedKeys })
}

// WithOnlyMissing leaves keys alone that exist. Each is decided by the server at the
// moment at which it would be written.
func WithOnlyMissing() ImportOption {
	return importOption(func(o *importOptions) { o.onlyMissing = true })
}

// WithEmptyTarget refuses to begin, with [ErrKeyExists], when there is any key under
// the prefix. It takes one round trip more, and doesn't see what others write after
// it; [WithOnlyMissing] does.
func WithEmptyTarget() ImportOption {
	return importOption(func(o *importOptions) { o.emptyTarget = true })
}

// WithoutUndecodable leaves out what is as stored and doesn't open with the keys of
// this client.
func WithoutUndecodable() ImportOption {
	return importOption(func(o *importOptions) { o.noUndecodable = true })
}

// WithImportProgress calls f with the report after each chunk that was applied, in
// the goroutine of Import.
func WithImportProgress(f func(ImportReport)) ImportOption {
	if f == nil {
		return nil
	}
	return importOption(func(o *importOptions) { o.progress = f })
}
