package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/blueprint-go/etcd/internal/envelope"
	"github.com/blueprint-go/etcd/internal/export"
)

// Import stores what [Client.Export] has written. It works in chunks like
// [Client.BulkLoad]: it is not atomic, takes one round trip per chunk, and holds in
// memory only the chunks under way and a few bytes for each lease. It reads r to its end
// and does not close it.
//
// If r can seek, as a file can, Import reads and checks all of it before it writes
// anything, and then reads it again; otherwise it checks each part before it writes it. A
// file that was cut or changed, or isn't an export, fails with [ErrBadExport]. The
// checksum finds accidents; it doesn't prove who made the file. Import also checks that
// the keys are in order and under the prefix, that keys and values are not too large, and
// that values as stored open with the keys of this client, at their key; a value that
// doesn't is a [*DecodeError]. Values as stored are written byte for byte, and only into
// the namespace that they come from. Decrypted values are encrypted anew. So are values
// as stored if another primary key is promoted, or their own key leaves the ring, while
// Import runs.
//
// Keys that exist are overwritten, unless [WithOnlyMissing] or [WithEmptyTarget] is
// given, and other keys stay. Revisions and versions are new.
//
// Import grants a lease for each one in the file, with the same time to live, and
// attaches the keys to it. It renews the lease when another of its keys comes and a third
// of that time has passed; once Import has returned, nothing keeps the lease alive. This
// takes a round trip for each lease and each renewal. Import leaves out keys whose lease
// had ended. See [WithoutLeases] and [WithoutLeasedKeys].
//
// If Import fails, the report says what is stored. If [MaybeApplied] reports true for the
// error, some of what follows may be stored as well. Importing again does no harm;
// [WithResumeAt] begins where it stopped, with new leases. The end of ctx does not
// interrupt a slow read of r.
func (c *Client) Import(ctx context.Context, r io.Reader, opts ...ImportOption) (ImportReport, error) {
	i, err := c.newImport(ctx, r, opts)
	if err != nil {
		return ImportReport{}, fail(opImport, "", err)
	}
	err = i.run(ctx)
	if err == nil {
		i.report.Next = ""
	}
	return i.report, i.failure(err)
}

const opImport = "import"

// importation is one run of Import.
type importation struct {
	client  *Client
	options importOptions
	in      io.Reader
	file    *export.Reader
	target  string // the prefix that the keys get
	leases  leaseSource
	primary *envelope.Key // of the client when the call began; may be nil

	pending []string // keys of the file that were sent and are not known to be stored, in order
	report  ImportReport
}

func (c *Client) newImport(ctx context.Context, r io.Reader, opts []ImportOption) (*importation, error) {
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	o, err := importOptionsOf(opts)
	if err == nil && r == nil {
		err = fmt.Errorf("%w: nil reader", ErrInvalidArgument)
	}
	return &importation{client: c, options: o, in: r, primary: c.codec.keyring.current().primary}, err
}

func (i *importation) run(ctx context.Context) error {
	from, seeks := position(i.in)
	if seeks || i.options.dryRun {
		if err := i.verify(ctx); err != nil || i.options.dryRun {
			return err
		}
		if _, err := i.in.(io.Seeker).Seek(from, io.SeekStart); err != nil {
			return fail(opImport, "", err)
		}
	}
	return i.load(ctx)
}

// position returns the position of a reader, if it can return there.
func position(r io.Reader) (int64, bool) {
	s, ok := r.(io.Seeker)
	if !ok {
		return 0, false
	}
	from, err := s.Seek(0, io.SeekCurrent) // an error for a pipe
	return from, err == nil
}

// begin reads the first line, and checks whether the file can be imported this way.
func (i *importation) begin() error {
	var err error
	if i.file, err = export.NewReader(i.in); err == nil {
		err = i.takeHeader(i.file.Header())
	}
	if err != nil {
		return fail(opImport, "", err)
	}
	return nil
}

// takeHeader takes over what the header says, or refuses it.
func (i *importation) takeHeader(head export.Header) error {
	i.report = ImportReport{Revision: head.Revision, Leases: map[LeaseID]LeaseID{}, Next: i.options.resume}
	i.target = head.Prefix
	if i.options.prefix != nil {
		i.target = *i.options.prefix
	}
	switch {
	case !strings.HasPrefix(i.options.resume, head.Prefix) && i.options.resume != "":
		return fmt.Errorf("%w: key to resume at is not under the prefix %q", ErrInvalidArgument, head.Prefix)
	case !head.Stored:
		return nil
	case head.Namespace != i.client.cfg.Namespace:
		return fmt.Errorf("%w: values as stored belong into the namespace %q", ErrInvalidArgument, head.Namespace)
	case i.target != head.Prefix:
		return fmt.Errorf("%w: values as stored belong under the prefix %q", ErrInvalidArgument, head.Prefix)
	}
	return nil
}

// verify reads the file and makes all checks that don't need the server.
func (i *importation) verify(ctx context.Context) error {
	if err := i.begin(); err != nil {
		return err
	}
	i.leases = anyLease{}
	for put, err := range i.puts(ctx, func(string) {}) {
		if err != nil {
			return err
		}
		key := i.client.visible(put.put.Key)
		if _, err := i.client.operation(key, put.wire(), nil); err != nil {
			return fail(opImport, key, err)
		}
		if i.options.dryRun {
			i.report.Written++
		}
	}
	return nil
}

// load reads the file and stores its contents.
func (i *importation) load(ctx context.Context) error {
	if err := i.begin(); err != nil {
		return err
	}
	if i.options.emptyTarget {
		n, err := i.client.Count(ctx, i.target)
		if err != nil {
			return err
		}
		if n > 0 {
			return answered(opImport, i.target, fmt.Errorf("%w: %d under the prefix", ErrKeyExists, n))
		}
	}
	i.leases = regranted{client: i.client, report: i.report.Leases, leases: map[int64]*regrant{}}
	puts := i.puts(ctx, func(key string) { i.pending = append(i.pending, key) })
	report, err := i.client.load(ctx, opImport, puts, bulkOptions{chunks: i.options.chunks, progress: i.progress})
	i.options.tellRevision(report.Revision)
	return err
}

// progress records how far the load has got.
func (i *importation) progress(r LoadReport) {
	done := r.Applied - i.report.Written - i.report.Existing
	if done == 0 {
		return
	}
	i.report.Written, i.report.Existing = r.Applied-r.skipped, r.skipped
	i.report.Next = i.pending[done-1] + "\x00"
	i.pending = slices.Delete(i.pending, 0, int(done))
	if i.options.progress != nil {
		i.options.progress(i.report)
	}
}

// failure returns the error of an import that failed with err, if any. If the file turns
// out bad after something was stored, the error is that of a call that did send
// something.
func (i *importation) failure(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || i.options.dryRun || i.report.Written+i.report.Existing == 0 || e.Sent {
		return err
	}
	return &Error{Op: e.Op, Key: e.Key, Sent: true, MaybeApplied: e.MaybeApplied, Err: e.Err}
}
