package integration

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// lines returns the lines of a file as objects.
func lines(t *testing.T, file string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(file) {
		var object map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &object))
		all = append(all, object)
	}
	return all
}

// forms are the options of an export by its form.
var forms = map[string][]etcd.ExportOption{
	"stored":    nil,
	"decrypted": {etcd.WithDecryptedValues()},
}

func TestImportRestoresAnExportWhateverItsBytes(t *testing.T) {
	t.Parallel()
	for name, opts := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
				ctx, p := t.Context(), "/p\xff/"
				want := anything(p, 500)
				require.NoError(t, c.BulkPut(ctx, want))
				require.NoError(t, c.Put(ctx, "/p", []byte("beside")))
				require.NoError(t, c.Put(ctx, "/p\xff0", []byte("beside")))
				file := exported(t, c, p, opts...)
				require.Equal(t, file, exported(t, c, p, append(opts, etcd.WithRevision(revisionOf(t, c)))...), "equal at one revision")

				_, err := c.DeletePrefix(ctx, p)
				require.NoError(t, err)
				for _, in := range []io.Reader{strings.NewReader(file), io.MultiReader(strings.NewReader(file))} {
					report, err := c.Import(ctx, in)
					require.NoError(t, err)
					require.Equal(t, etcd.ImportReport{
						Revision: report.Revision, Keys: int64(len(want)), Written: int64(len(want)), Leases: map[etcd.LeaseID]etcd.LeaseID{},
					}, report)
					got, err := c.ListWithValues(ctx, p)
					require.NoError(t, err)
					require.Equal(t, want, got)
				}
			})
		})
	}
}

func TestExportNotesWhatWasKnownAboutEachKey(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithNamespace("space/"))
	ctx := t.Context()
	lease, err := c.Grant(ctx, time.Hour)
	require.NoError(t, err)
	require.NoError(t, c.Put(ctx, "/a", []byte("1")))
	require.NoError(t, c.Put(ctx, "/a", []byte("2")))
	require.NoError(t, c.Put(ctx, "/b", nil, etcd.WithLease(lease)))
	require.NoError(t, c.Put(ctx, "/c", []byte{0xff}, etcd.WithLease(lease)))
	a, err := c.GetKV(ctx, "/a")
	require.NoError(t, err)
	revision := float64(a.ModRevision + 2)

	var out bytes.Buffer
	report, err := c.Export(ctx, &out, "/", etcd.WithDecryptedValues())
	require.NoError(t, err)
	require.Equal(t, etcd.ExportReport{Revision: int64(revision), Keys: 3, Leases: 1}, report)
	all := lines(t, out.String())
	require.Equal(t, []map[string]any{
		{"format": "etcd-export", "version": 1., "form": "decrypted", "prefix": "/", "revision": revision},
		{"key": "/a", "value": "2", "create_revision": float64(a.CreateRevision), "mod_revision": float64(a.ModRevision), "version": 2.},
		{"key": "/b", "value": "", "create_revision": revision - 1, "mod_revision": revision - 1, "version": 1., "lease": lease.String(), "lease_ttl": 3600.},
		{"key": "/c", "value64": "/w==", "create_revision": revision, "mod_revision": revision, "version": 1., "lease": lease.String(), "lease_ttl": 3600.},
		{"count": 3., "sha256": all[4]["sha256"]},
	}, all)

	all = lines(t, exported(t, c, "/b", etcd.WithoutLeaseTTLs()))
	require.Equal(t, map[string]any{
		"format": "etcd-export", "version": 1., "form": "stored", "namespace": "space/", "prefix": "/b", "revision": revision,
	}, all[0])
	require.Equal(t, lease.String(), all[1]["lease"])
	require.NotContains(t, all[1], "lease_ttl")

	before := revisionOf(t, c)
	require.NoError(t, c.RevokeLease(ctx, lease))
	all = lines(t, exported(t, c, "/b", etcd.WithRevision(before)))
	require.Zero(t, all[1]["lease_ttl"], "the lease has ended")
	require.Contains(t, all[1], "lease_ttl")
}

func TestStoredExportHoldsCiphertextAndNeedsNoKey(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithEncryption(testKey))
	require.NoError(t, c.Put(t.Context(), "/k", []byte(secret)))
	file := exported(t, c, "/")
	require.NotContains(t, file, secret)
	require.NotContains(t, file, "stored\":", "ciphertext is no text")
	require.Equal(t, file, exported(t, client(t, config(srv)), "/"))
	require.Contains(t, exported(t, c, "/", etcd.WithDecryptedValues()), secret)
}

func TestExportIsOneRevisionWhileWritersGoOn(t *testing.T) {
	inEachWay(t, func(t *testing.T, c *etcd.Client, _ *streams) {
		ctx, p := t.Context(), prefix(t)
		fill(t, c, p, 2000)
		before := revisionOf(t, c)
		out := &hooked{each: func() {
			_, err := c.DeletePrefix(ctx, p)
			assert.NoError(t, err)
			assert.NoError(t, c.Put(ctx, p+"new", nil))
		}}
		report, err := c.Export(ctx, out, p)
		require.NoError(t, err)
		require.EqualValues(t, 2000, report.Keys)
		require.NotContains(t, out.String(), p+"new")
		require.Equal(t, before, report.Revision)
		require.Greater(t, revisionOf(t, c), before)
	})
}

// hooked is a buffer that calls each before every write.
type hooked struct {
	bytes.Buffer
	each func()
}

func (h *hooked) Write(b []byte) (int, error) {
	h.each()
	return h.Buffer.Write(b)
}

func TestDecryptedExportNamesWhatItCantDecode(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	ctx := t.Context()
	for i := range 300 {
		require.NoError(t, c.Put(ctx, fmt.Sprintf("/k%03d", i), []byte(secret)))
	}
	for i := range 150 {
		plant(t, c, fmt.Sprintf("/k%03d", 2*i), "planted")
	}
	var out bytes.Buffer
	report, err := c.Export(ctx, &out, "/", etcd.WithDecryptedValues())
	require.ErrorIs(t, err, etcd.ErrNotEncrypted)
	require.Equal(t, 100, strings.Count(err.Error(), "decode"))
	require.NotContains(t, err.Error(), "planted")
	require.EqualValues(t, 150, report.Undecodable)
	bad, ok := errors.AsType[*etcd.DecodeError](err)
	require.True(t, ok)
	require.Equal(t, "/k000", bad.Key)
	_, err = c.Import(ctx, &out)
	require.ErrorIs(t, err, etcd.ErrBadExport, "what failed is no file")

	// As stored, they are no obstacle, and marked.
	file := exported(t, c, "/", etcd.WithDecryptedValues(), etcd.WithUndecodableAsStored())
	all := lines(t, file)
	require.Equal(t, "planted", all[1]["stored"])
	require.Equal(t, secret, all[2]["value"])
	_, err = c.Import(ctx, strings.NewReader(file))
	require.ErrorIs(t, err, etcd.ErrNotEncrypted)
	imported, err := c.Import(ctx, strings.NewReader(file), etcd.WithoutUndecodable())
	require.NoError(t, err)
	require.EqualValues(t, 150, imported.Written)
	require.EqualValues(t, 150, imported.LeftOut)
	require.EqualValues(t, 300, imported.Keys)
	exported(t, c, "/") // without decoding
}

func TestUndecodableValueIsExportedAsStored(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	require.NoError(t, c.Put(t.Context(), "/k", []byte(secret)))
	// An attempt to open it overwrites a value.
	spoilt := flip(storedBytes(t, c, "/k"), 70)
	plant(t, c, "/k", spoilt)
	for _, opts := range [][]etcd.ExportOption{nil, {etcd.WithDecryptedValues(), etcd.WithUndecodableAsStored()}} {
		entry := lines(t, exported(t, c, "/", opts...))[1]
		require.Equal(t, base64.StdEncoding.EncodeToString([]byte(spoilt)), entry["stored64"])
	}
}

func TestExportNeedsReadPermissionOnItsPrefixOnly(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("root-password"), etcdtest.WithUser("app", "password",
		etcdtest.Permission{Prefix: "own/", Read: true}))
	root := client(t, config(srv).WithAuth("root", "root-password"))
	c, ctx := client(t, config(srv).WithAuth("app", "password")), t.Context()
	lease, err := root.Grant(ctx, time.Hour)
	require.NoError(t, err)
	require.NoError(t, root.BulkPut(ctx, map[string][]byte{"own/k": nil, "other/k": nil}, etcd.WithLease(lease)))
	require.Contains(t, exported(t, c, "own/"), `"lease_ttl":3600`, "though the lease has a key that can't be read")
	_, err = c.Export(ctx, io.Discard, "")
	require.ErrorIs(t, err, etcd.ErrPermissionDenied)
}

func TestBadExportAndImportArgumentsAreRefusedUnsent(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c, ctx := client(t, config(srv)), t.Context()
	export := func(opts ...etcd.ExportOption) func() error {
		return func() error { return second(c.Export(ctx, io.Discard, "k", opts...)) }
	}
	load := func(opts ...etcd.ImportOption) func() error {
		return func() error { return second(c.Import(ctx, strings.NewReader(noKeys), opts...)) }
	}
	for name, call := range map[string]func() error{
		"nil writer":          func() error { return second(c.Export(ctx, nil, "k")) },
		"revision -1":         export(etcd.WithRevision(-1)),
		"nil option":          export(nil),
		"both forms":          export(etcd.WithUndecodableAsStored()),
		"nil reader":          func() error { return second(c.Import(ctx, nil)) },
		"nil import option":   load(nil),
		"chunks of nothing":   load(etcd.WithChunkKeys(0)),
		"nothing at a time":   load(etcd.WithParallelism(0)),
		"resumed from beside": load(etcd.WithResumeAt("beside")),
	} {
		requireRefused(t, o, name, etcd.ErrInvalidArgument, call)
	}
}

func TestExportEndsWithItsContextWriterOrRevision(t *testing.T) {
	inEachWay(t, func(t *testing.T, c *etcd.Client, _ *streams) {
		p := prefix(t)
		fill(t, c, p, 5000)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := c.Export(ctx, &hooked{each: cancel}, p)
		require.ErrorIs(t, err, context.Canceled)
		requireOp(t, err, "export", p)

		broken := errors.New("disk full")
		_, err = c.Export(t.Context(), failing{broken}, p)
		require.ErrorIs(t, err, broken)
		requireOp(t, err, "export", p)

		_, err = c.Export(t.Context(), io.Discard, p, etcd.WithRevision(revisionOf(t, c)+1))
		require.ErrorIs(t, err, etcd.ErrFutureRevision)
		_, err = c.Raw().Compact(t.Context(), revisionOf(t, c))
		require.NoError(t, err)
		_, err = c.Export(t.Context(), io.Discard, p, etcd.WithRevision(1))
		require.ErrorIs(t, err, etcd.ErrCompacted)
	})
}
