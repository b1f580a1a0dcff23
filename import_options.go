package etcd

// ImportReport says what [Client.Import] has done so far.
type ImportReport struct {
	// Revision is the revision of the export.
	Revision int64
	// Keys is how many keys of the file were read.
	Keys int64
	// Written is how many are certainly stored; with [WithDryRun], how many would be.
	Written int64
	// Existing is how many [WithOnlyMissing] left alone.
	Existing int64
	// LeftOut is how many were not to be written: by [WithoutLeasedKeys] or
	// [WithoutUndecodable], or because their lease had ended when they were exported.
	LeftOut int64
	// Leases are the granted leases, by those in the file.
	Leases map[LeaseID]LeaseID
	// Next is the key of the file to resume from with [WithResumeAt]: everything before
	// it is done. It is empty when nothing is done, and when everything is.
	Next string
}

// ImportOption changes a [Client.Import]. The options are
//   - for which keys: [WithNewPrefix], [WithOnlyMissing], [WithEmptyTarget],
//     [WithoutUndecodable];
//   - for leases: [WithoutLeases], [WithoutLeasedKeys];
//   - for the run: [WithDryRun], [WithResumeAt], [WithImportProgress],
//     [WithParallelism], [WithChunkKeys], [WithKeysPerSecond], [WithResult].
type ImportOption interface{ applyImport(*importOptions) }

type importOptions struct {
	writeOptions
	prefix        *string // nil means that of the file
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

// WithNewPrefix puts the keys under another prefix, in place of the exported one. Values
// as stored don't open anywhere else, so it is for decrypted exports.
func WithNewPrefix(prefix string) ImportOption {
	return importOption(func(o *importOptions) { o.prefix = &prefix })
}

// WithoutLeases imports keys that had a lease without one: they stay until deleted.
// Registrations of services and claims of locks are such keys.
func WithoutLeases() ImportOption {
	return importOption(func(o *importOptions) { o.leases = dropLeases })
}

// WithoutLeasedKeys leaves out the keys that had a lease.
func WithoutLeasedKeys() ImportOption {
	return importOption(func(o *importOptions) { o.leases = dropLeasedKeys })
}

// WithOnlyMissing leaves existing keys alone. The server decides for each key at the
// moment of writing.
func WithOnlyMissing() ImportOption {
	return importOption(func(o *importOptions) { o.onlyMissing = true })
}

// WithEmptyTarget refuses to begin, with [ErrKeyExists], if there is any key under the
// prefix. It takes one more round trip, and doesn't see what others write after it;
// [WithOnlyMissing] does.
func WithEmptyTarget() ImportOption {
	return importOption(func(o *importOptions) { o.emptyTarget = true })
}

// WithoutUndecodable leaves out values as stored that don't open with the keys of this
// client.
func WithoutUndecodable() ImportOption {
	return importOption(func(o *importOptions) { o.noUndecodable = true })
}

// WithImportProgress calls f with the report after each applied chunk, in the goroutine
// of Import.
func WithImportProgress(f func(ImportReport)) ImportOption {
	if f == nil {
		return nil
	}
	return importOption(func(o *importOptions) { o.progress = f })
}
