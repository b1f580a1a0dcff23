package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/envelope"
	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/export"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// errLeftOut says that an entry is not meant to be written.
var errLeftOut = errors.New("left out")

// puts returns those entries of the file that are to be written, as puts. It calls note
// with the key of each in the file before it yields it.
func (i *importation) puts(ctx context.Context, note func(key string)) iter.Seq2[loadPut, error] {
	return func(yield func(loadPut, error) bool) {
		for {
			entry, err := i.file.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(loadPut{}, fail(opImport, "", err))
				return
			}
			i.report.Keys++
			if entry.Key < i.options.resume {
				continue
			}
			put, err := i.put(ctx, entry)
			if errors.Is(err, errLeftOut) {
				i.report.LeftOut++
				continue
			}
			note(entry.Key)
			if !yield(put, err) || err != nil {
				return
			}
		}
	}
}

// put returns an entry as a put, or errLeftOut.
func (i *importation) put(ctx context.Context, entry export.Entry) (loadPut, error) {
	key := i.target + entry.Key[len(i.file.Header().Prefix):]
	if ctx.Err() != nil {
		return loadPut{}, fail(opImport, key, errs.OfContext(ctx))
	}
	put, sealed, err := i.encoded(ctx, key, entry)
	if err == nil && entry.Lease != 0 {
		put.Lease, err = i.lease(ctx, entry)
	}
	if err != nil {
		if _, ok := errors.AsType[*Error](err); !ok {
			err = fail(opImport, key, err)
		}
		return loadPut{}, err
	}
	out := loadPut{put: put, sealed: sealed}
	if i.options.onlyMissing {
		out.guard = txntree.Unchanged(put.Key, 0)
	}
	return out, nil
}

// encoded returns the put of an entry without its lease.
func (i *importation) encoded(ctx context.Context, key string, entry export.Entry) (*pb.PutRequest, *sealedPut, error) {
	c := i.client
	if !entry.Stored {
		return c.putRequest(ctx, key, entry.Value, putOptions{})
	}
	stored, err := c.stored(key)
	if err != nil {
		return nil, nil, err
	}
	// Checked on a copy, which decoding may overwrite.
	value, err := c.codec.decode(ctx, stored, bytes.Clone(entry.Value))
	if err != nil {
		switch {
		case ctx.Err() != nil: // it may be the reason, through a key provider
			err = errs.OfContext(ctx)
		case errors.Is(err, ErrKeyUnavailable):
			err = undecoded(key, err)
		case i.options.noUndecodable:
			err = errLeftOut
		default:
			err = &DecodeError{Key: key, Err: err}
		}
		return nil, nil, err
	}
	if _, encrypted := envelope.KeyIDOf(entry.Value); !encrypted || !c.codec.encrypts() || c.codec.plain(stored) {
		return &pb.PutRequest{Key: stored, Value: entry.Value}, nil, nil
	}
	s := &sealedPut{codec: i.client.codec, value: value, beside: i.primary}
	s.wire.Key, s.wire.Value = stored, entry.Value
	return &s.wire, s, nil
}

// lease returns the lease for an entry that has one, or errLeftOut.
func (i *importation) lease(ctx context.Context, entry export.Entry) (int64, error) {
	switch {
	case i.options.leases == dropLeases:
		return 0, nil
	case i.options.leases == dropLeasedKeys, entry.LeaseTTL == 0:
		return 0, errLeftOut
	case entry.LeaseTTL == export.NoTTL:
		return 0, fmt.Errorf("%w: line %d: the export notes no time to live for the lease", ErrInvalidArgument, i.file.Line())
	}
	return i.leases.attach(ctx, entry)
}

// leaseSource has a lease for each in the file.
type leaseSource interface {
	// attach returns the one for another key of a lease in the file.
	attach(ctx context.Context, entry export.Entry) (int64, error)
}

// anyLease stands for leases where nothing is stored.
type anyLease struct{}

// attach implements [leaseSource]. No lease takes more bytes than the one that it returns.
func (anyLease) attach(context.Context, export.Entry) (int64, error) { return math.MaxInt64, nil }

// regranted are the leases that an import has granted.
type regranted struct {
	client *Client
	leases map[int64]*regrant // by those in the file
	report map[LeaseID]LeaseID
}

type regrant struct {
	id      LeaseID
	ttl     time.Duration
	renewed time.Time
}

// attach implements [leaseSource]. The lease has most of its time left.
func (r regranted) attach(ctx context.Context, entry export.Entry) (int64, error) {
	l := r.leases[entry.Lease]
	if l != nil && time.Since(l.renewed) > l.ttl/3 {
		l.renewed = time.Now()
		_, err := r.client.KeepAliveOnce(ctx, l.id)
		switch {
		case errors.Is(err, ErrLeaseNotFound):
			l = nil // its keys lie so far apart that the earlier ones are gone with it
		case err != nil:
			return 0, err
		}
	}
	if l == nil {
		l = &regrant{renewed: time.Now()}
		resp, err := r.client.grantLease(ctx, entry.LeaseTTL)
		if err != nil {
			return 0, err
		}
		l.id, l.ttl = LeaseID(resp.ID), time.Duration(resp.TTL)*time.Second
		r.leases[entry.Lease], r.report[LeaseID(entry.Lease)] = l, l.id
	}
	return int64(l.id), nil
}
