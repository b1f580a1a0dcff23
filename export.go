package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/export"
)

// ExportReport says what [Client.Export] has written so far.
type ExportReport struct {
	// Revision is the revision at which all keys were read.
	Revision int64
	// Keys is how many were written.
	Keys int64
	// Leases is how many leases the keys are attached to.
	Leases int
	// Undecodable is how many values could not be decoded. With [WithUndecodableAsStored]
	// they are in the file as stored, otherwise in the error.
	Undecodable int64
}

// Export writes the key-values that begin with prefix to w, all at one revision, for
// [Client.Import]: lines of JSON in the order of the keys, as docs/export.md describes
// them, with the revisions, the version and the lease of each key. The keys don't include
// the namespace. The empty prefix means all keys.
//
// Values are written as they are stored. So the file reveals no more than the server
// does, and making it needs no encryption key. An encrypted value opens only under its
// own key and namespace, so such a file restores exactly what it was made of, and nothing
// else; see [WithDecryptedValues]. [WithRevision] exports an older revision.
//
// A decrypted export fails if values can't be decoded: the error joins a [*DecodeError]
// for each of the first hundred, after all have been looked at. A file whose export
// failed has no last line, and Import refuses it. The report says what was written until
// then.
//
// It takes the round trips of [Client.Scan] and one for each lease, and the memory of a
// scan plus a few bytes for each lease. Two exports of the same revision are equal,
// except for leases that ended in between. Export has written everything when it returns;
// it does not close w.
func (c *Client) Export(ctx context.Context, w io.Writer, prefix string, opts ...ExportOption) (ExportReport, error) {
	e, err := c.newExport(ctx, w, prefix, opts)
	if err != nil {
		return ExportReport{}, fail(opExport, prefix, err)
	}
	err = e.run(ctx, w) // before the report is copied
	return e.report, err
}

const opExport = "export"

// exportation is one run of Export.
type exportation struct {
	client  *Client
	request request
	options exportOptions
	pages   *pager

	out    *export.Writer
	ttls   map[int64]int64 // in seconds, by lease
	bad    []error         // values that can't be decoded
	report ExportReport
}

func (c *Client) newExport(ctx context.Context, w io.Writer, prefix string, opts []ExportOption) (*exportation, error) {
	e := &exportation{client: c, request: request{op: opExport, key: prefix}, ttls: map[int64]int64{}}
	if err := optionsOf(opts, &e.options, ExportOption.applyExport); err != nil {
		return nil, err
	}
	s, err := c.newScan(ctx, prefix, []ScanOption{WithRevision(e.options.revision)})
	switch {
	case err != nil:
		return nil, err
	case w == nil:
		return nil, fmt.Errorf("%w: nil writer", ErrInvalidArgument)
	case e.options.asStored && !e.options.decrypted:
		return nil, fmt.Errorf("%w: all values are exported as stored", ErrInvalidArgument)
	}
	s.request = e.request
	e.pages = s.pages(s.options.getOptions, false)
	return e, nil
}

// run writes the file.
func (e *exportation) run(ctx context.Context, w io.Writer) error {
	if err := e.pages.pin(ctx); err != nil { // the first line names the revision
		return err
	}
	e.report.Revision = e.pages.revision
	head := export.Header{Prefix: e.request.key, Revision: e.pages.revision}
	if !e.options.decrypted {
		head.Stored, head.Namespace = true, e.client.cfg.Namespace
	}
	var failed error
	if e.out, failed = export.NewWriter(w, head); failed != nil {
		return e.failure(failed)
	}
	err := forward(ctx, e.pages, func(kvs []*mvccpb.KeyValue) bool {
		failed = e.write(ctx, kvs)
		return failed == nil
	})
	switch {
	case failed != nil:
		return failed
	case len(e.bad) > 0:
		return e.failure(errors.Join(append(e.bad, err)...))
	case err != nil:
		return err
	}
	return e.failure(e.out.Close())
}

// failure returns the error of an export that failed with err.
func (e *exportation) failure(err error) error { return answered(opExport, e.request.key, err) }

// write writes what a scan has delivered.
func (e *exportation) write(ctx context.Context, kvs []*mvccpb.KeyValue) error {
	for _, kv := range kvs {
		entry, err := e.entry(ctx, kv)
		if err != nil {
			return err
		}
		if len(e.bad) > 0 {
			continue // there will be no file; the rest is only checked
		}
		if err := e.out.Write(entry); err != nil {
			return e.failure(err)
		}
		e.report.Keys++
	}
	return nil
}

// entry returns a key-value in the form of the export.
func (e *exportation) entry(ctx context.Context, kv *mvccpb.KeyValue) (export.Entry, error) {
	entry := export.Entry{
		Key: e.client.visible(kv.Key), Value: kv.Value, Stored: true,
		CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version,
		Lease: kv.Lease, LeaseTTL: export.NoTTL,
	}
	if e.options.decrypted {
		if err := e.decrypt(ctx, &entry, kv); err != nil {
			return entry, err
		}
	}
	if kv.Lease == 0 || len(e.bad) > 0 {
		return entry, nil
	}
	ttl, known := e.ttls[kv.Lease]
	if !known {
		var err error
		if ttl, err = e.ttl(ctx, kv.Lease); err != nil {
			return entry, err
		}
		e.ttls[kv.Lease] = ttl
		e.report.Leases++
	}
	entry.LeaseTTL = ttl
	return entry, nil
}

// decrypt replaces the stored bytes by their value, if it can be decoded.
func (e *exportation) decrypt(ctx context.Context, entry *export.Entry, kv *mvccpb.KeyValue) error {
	stored := kv.Value
	if e.options.asStored {
		stored = append([]byte(nil), stored...) // decoding may overwrite it
	}
	value, err := e.client.codec.decode(ctx, kv.Key, stored)
	switch {
	case err == nil:
		entry.Value, entry.Stored = value, false
		return nil
	case ctx.Err() != nil: // it may be the reason, through a key provider
		return e.failure(errs.OfContext(ctx))
	case errors.Is(err, ErrKeyUnavailable):
		return e.failure(undecoded(strings.Clone(entry.Key), err))
	}
	e.report.Undecodable++
	if !e.options.asStored && len(e.bad) < maxReported {
		e.bad = append(e.bad, &DecodeError{Key: strings.Clone(entry.Key), Err: err})
	}
	return nil
}

// ttl returns the granted time to live of a lease in seconds, which the server gives as 0
// for one that has ended; or NoTTL if none is to be noted.
func (e *exportation) ttl(ctx context.Context, lease int64) (int64, error) {
	if e.options.noTTLs {
		return export.NoTTL, nil
	}
	resp, err := do(ctx, e.client.conn, e.request, e.client.rpc.TimeToLive, &pb.LeaseTimeToLiveRequest{ID: lease})
	return resp.GetGrantedTTL(), err
}
