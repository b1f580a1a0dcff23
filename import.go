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

// Import stores what [Client.Export] has written, in chunks of which several are
// under way at a time, as [Client.BulkLoad] does: it is not atomic, takes one round
// trip for a chunk, and holds no more than those, but for a few bytes for each lease.
// r is read to its end and not closed.
//
// If r can seek, as a file can, all of it is read and checked before anything is
// written, and then once more; else each part is checked before it is written. What
// was cut or changed, or isn't an export, is [ErrBadExport]. The checksum finds
// accidents; it doesn't prove who made the file. Checked are, beside it, the order of
// the keys and that they are under the prefix; keys and values that are too large
// here; and that values as stored open with the keys of this client, at their key. If
// not, the error is a [*DecodeError]. They are written as they are in the file, byte
// for byte, and only into the namespace that they come from. Decrypted values are
// encrypted anew, and so are values as stored from when another primary key is promoted
// while Import runs, or their own key leaves the ring.
//
// Keys that exist are overwritten, unless [WithOnlyMissing] or [WithEmptyTarget] is
// given, and other keys stay. Revisions and versions are new.
//
// For each lease in the file one is granted, for the time that the old one had been
// granted for, and its keys are attached to it. It is renewed when a third of that has
// passed and a further key of it comes; when Import has returned, nobody keeps it
// alive. This takes a round trip for each lease and each renewal. Keys whose lease had
// ended are left out. See [WithoutLeases] and [WithoutLeasedKeys].
//
// When it fails, the report says what is stored. If the error is [MaybeApplied], some
// of what follows that may be stored as well. Importing again leads to the same end;
// [WithResumeAt] begins where it stopped, with leases of its own. A read of r that
// takes long is not interrupted when ctx ends.
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
	leases  regranted
	primary *envelope.Key // of the client when the call began; may be nil

	// loading tells the pass that stores from the one that checks.
	loading bool
	pending []string // keys of the file that are not known to be stored, in order
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

// position returns where a reader stands, if it can be brought back there.
func position(r io.Reader) (int64, bool) {
	s, ok := r.(io.Seeker)
	if !ok {
		return 0, false
	}
	from, err := s.Seek(0, io.SeekCurrent) // of a pipe, it is an error
	return from, err == nil
}

// begin reads the first line, and checks whether the file can be imported so.
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

// takeHeader takes in what a file is about.
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

// verify reads the file and does all but what needs the server.
func (i *importation) verify(ctx context.Context) error {
	if err := i.begin(); err != nil {
		return err
	}
	for put, err := range i.puts(ctx) {
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

// load reads the file and stores what is in it.
func (i *importation) load(ctx context.Context) error {
	i.loading = true
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
	report, err := i.client.load(ctx, opImport, i.puts(ctx), bulkOptions{chunks: i.options.chunks, progress: i.progress})
	i.options.tellRevision(report.Revision)
	return err
}

// progress takes in how far the load has come.
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

// failure returns the error of an import that failed with err, if any. A bad line
// behind what was stored is an error of a call that did send something.
func (i *importation) failure(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || !i.loading || i.report.Written+i.report.Existing == 0 || e.Sent {
		return err
	}
	return &Error{Op: e.Op, Key: e.Key, Sent: true, MaybeApplied: e.MaybeApplied, Err: e.Err}
}
