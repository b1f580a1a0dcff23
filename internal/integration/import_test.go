package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd"
)

// requireValues holds that these are all key-values under p.
func requireValues(t *testing.T, c *etcd.Client, p string, want map[string]string) {
	t.Helper()
	got, err := keyedMap(c.ListWithValues(t.Context(), p))
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestImportOfABadFileWritesNothing(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	fill(t, c, "/k", 2)
	file := exported(t, c, "/")
	bad := map[string]string{
		"reversed": strings.Join([]string{file[strings.Index(file, "\n")+1:], file}, ""),
		"longer":   file + file,
	}
	for n := range len(file) {
		bad[fmt.Sprint("cut at ", n)] = file[:n]
		bad[fmt.Sprint("changed at ", n)] = file[:n] + string(file[n]^1) + file[n+1:]
	}
	for name, file := range bad {
		requireRefused(t, o, name, etcd.ErrBadExport, func() error { return second(c.Import(t.Context(), strings.NewReader(file), etcd.WithChunkKeys(1))) })
	}

	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte("before "+file[:len(file)-1]), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	_, err = f.Seek(int64(len("before ")), io.SeekStart)
	require.NoError(t, err)
	requireRefused(t, o, "file", etcd.ErrBadExport, func() error { return second(c.Import(t.Context(), f, etcd.WithChunkKeys(1))) })
	require.NoError(t, os.WriteFile(path, []byte("before "+file), 0o600))
	_, err = f.Seek(int64(len("before ")), io.SeekStart)
	require.NoError(t, err)
	report, err := c.Import(t.Context(), f)
	require.NoError(t, err)
	require.EqualValues(t, 2, report.Written, "from where the file stood")
}

func TestImportOfBadStreamsReportsWhatIsStored(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	const n, chunk = 1000, 100
	fill(t, c, "/k", n)
	file := exported(t, c, "/")
	require.NoError(t, second(c.DeletePrefix(t.Context(), "/k")))

	last := len(file) - len("0\"}\n") // of the checksum
	bad := file[:last] + strings.Map(func(r rune) rune { return '0' + (r+1)%10 }, file[last:last+1]) + file[last+1:]
	report, err := c.Import(t.Context(), stream(bad), etcd.WithChunkKeys(chunk))
	require.ErrorIs(t, err, etcd.ErrBadExport)
	require.ErrorContains(t, err, fmt.Sprint("line ", n+2))
	e, ok := errors.AsType[*etcd.Error](err)
	require.True(t, ok)
	require.True(t, e.Sent)
	require.False(t, e.MaybeApplied, "the report counts all")
	require.EqualValues(t, n, report.Keys)
	require.EqualValues(t, n-chunk, report.Written, "the chunk that was being made is not sent")
	require.Equal(t, fmt.Sprintf("/k%05d\x00", n-chunk-1), report.Next)
	count, err := c.Count(t.Context(), "/k")
	require.NoError(t, err)
	require.Equal(t, report.Written, count)

	// What is right is resumed from there.
	var seen []int64
	report, err = c.Import(t.Context(), stream(file), etcd.WithResumeAt(report.Next),
		etcd.WithImportProgress(func(r etcd.ImportReport) { seen = append(seen, r.Written) }), etcd.WithParallelism(1), etcd.WithChunkKeys(60))
	require.NoError(t, err)
	require.EqualValues(t, n, report.Keys)
	require.EqualValues(t, chunk, report.Written)
	require.Equal(t, []int64{60, 100}, seen)
	require.Empty(t, report.Next)
	require.Len(t, list(t, c, "/k"), n)
}

func TestImportEndsWithItsContextAndItsReader(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	fill(t, c, "/k", 100)
	file := exported(t, c, "/")
	for name, opts := range map[string][]etcd.ImportOption{"import": nil, "dry run": {etcd.WithDryRun()}} {
		ctx, cancel := context.WithCancel(t.Context())
		in := io.MultiReader(strings.NewReader(file[:len(file)/2]), calling(cancel), strings.NewReader(file[len(file)/2:]))
		report, err := c.Import(ctx, in, opts...)
		require.ErrorIs(t, err, context.Canceled, name)
		require.Less(t, report.Keys, int64(100), name)

		broken := errors.New("no carrier")
		report, err = c.Import(t.Context(), io.MultiReader(strings.NewReader(file[:len(file)/2]), failing{broken}), opts...)
		require.ErrorIs(t, err, broken, name)
		require.NotErrorIs(t, err, etcd.ErrBadExport, name)
		require.Less(t, report.Keys, int64(100), name)
		requireOp(t, err, "import", "")
	}
}

// calling is a reader of nothing that calls a function.
type calling func()

func (f calling) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestOnlyMissingImportLeavesExistingKeysAlone(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx := t.Context()
		fill(t, c, "/k", 1000)
		file := exported(t, c, "/")
		for i := range 500 {
			require.NoError(t, second(c.Delete(ctx, fmt.Sprintf("/k%05d", 2*i))))
		}
		require.NoError(t, c.Put(ctx, "/k00001", []byte("newer")))

		_, err := c.Import(ctx, strings.NewReader(file), etcd.WithEmptyTarget())
		require.ErrorIs(t, err, etcd.ErrKeyExists)
		report, err := c.Import(ctx, strings.NewReader(file), etcd.WithOnlyMissing())
		require.NoError(t, err)
		require.EqualValues(t, 500, report.Written)
		require.EqualValues(t, 500, report.Existing)
		value, err := c.Get(ctx, "/k00001")
		require.NoError(t, err)
		require.Equal(t, "newer", string(value))
		require.Len(t, list(t, c, "/k"), 1000)

		require.NoError(t, second(c.DeletePrefix(ctx, "/k")))
		report, err = c.Import(ctx, strings.NewReader(file), etcd.WithEmptyTarget())
		require.NoError(t, err)
		require.EqualValues(t, 1000, report.Written)
	})
}

func TestDecryptedExportGoesAnywhere(t *testing.T) {
	t.Parallel()
	srv := server(t)
	from := client(t, config(srv).WithEncryption(testKey).WithNamespace("from/"))
	require.NoError(t, from.Put(t.Context(), "/a/1", []byte(secret)))
	require.NoError(t, from.Put(t.Context(), "/a", nil))
	file := exported(t, from, "/a", etcd.WithDecryptedValues())

	to := client(t, config(srv).WithEncryption([]byte(strings.Repeat("another key ", 3))).WithNamespace("to/"))
	for prefix, want := range map[string]map[string]string{
		"/a":      {"/a": "", "/a/1": secret},
		"/b\xff/": {"/b\xff/": "", "/b\xff//1": secret},
	} {
		_, err := to.Import(t.Context(), stream(file), etcd.WithNewPrefix(prefix))
		require.NoError(t, err)
		requireValues(t, to, prefix, want)
	}
	require.True(t, strings.HasPrefix(storedBytes(t, to, "to//a/1"), magic))
	_, err := to.Import(t.Context(), strings.NewReader(file), etcd.WithNewPrefix(""))
	require.ErrorIs(t, err, etcd.ErrEmptyKey, "nothing is left of /a")
}

func TestStoredExportRestoresExactBytesInPlaceOnly(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	in := func(set func(*etcd.Config)) *etcd.Client {
		cfg := config(srv).WithNamespace("space/")
		set(cfg)
		return client(t, cfg)
	}
	c := in(func(cfg *etcd.Config) { cfg.WithEncryption(testKey).WithAssociatedContext([]byte("context")) })
	require.NoError(t, c.Put(t.Context(), "/a", []byte(secret)))
	require.NoError(t, c.Put(t.Context(), "/b", []byte(secret)))
	stored := storedBytes(t, c, "space//a")
	file := exported(t, c, "/")

	for name, tc := range map[string]struct {
		client *etcd.Client
		opts   []etcd.ImportOption
		want   error
	}{
		"another key":       {client: in(func(cfg *etcd.Config) { cfg.WithEncryption([]byte(strings.Repeat("another key ", 3))) }), want: etcd.ErrUnknownKey},
		"another context":   {client: in(func(cfg *etcd.Config) { cfg.WithEncryption(testKey) }), want: etcd.ErrDecrypt},
		"another namespace": {client: in(func(cfg *etcd.Config) { cfg.WithNamespace("other/") }), want: etcd.ErrInvalidArgument},
		"another prefix":    {client: c, opts: []etcd.ImportOption{etcd.WithNewPrefix("/c")}, want: etcd.ErrInvalidArgument},
	} {
		for _, r := range []io.Reader{strings.NewReader(file), stream(file)} {
			requireRefused(t, o, name, tc.want, func() error { return second(tc.client.Import(t.Context(), r, tc.opts...)) })
		}
	}
	// With and without the key.
	for _, to := range []*etcd.Client{c, in(func(*etcd.Config) {})} {
		require.NoError(t, second(c.DeletePrefix(t.Context(), "/")))
		_, err := to.Import(t.Context(), strings.NewReader(file), etcd.WithNewPrefix("/"))
		require.NoError(t, err)
		require.Equal(t, stored, storedBytes(t, c, "space//a"))
		requireValues(t, c, "/", map[string]string{"/a": secret, "/b": secret})
	}
}

func TestImportGrantsOneLeasePerExportedLease(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := t.Context()
	var old [2]etcd.LeaseID
	for i, ttl := range []time.Duration{time.Hour, time.Minute} {
		var err error
		old[i], err = c.Grant(ctx, ttl)
		require.NoError(t, err)
		for j := range 3 {
			require.NoError(t, c.Put(ctx, fmt.Sprintf("/%d%d", j, i), []byte("v"), etcd.WithLease(old[i])))
		}
	}
	require.NoError(t, c.Put(ctx, "/x", []byte("v")))
	file := exported(t, c, "/")
	noted := exported(t, c, "/", etcd.WithoutLeaseTTLs())
	require.NoError(t, c.RevokeLease(ctx, old[1]))
	ended := exported(t, c, "/", etcd.WithRevision(revisionOf(t, c)-1))
	require.NoError(t, c.RevokeLease(ctx, old[0]))

	report, err := c.Import(ctx, stream(file))
	require.NoError(t, err)
	require.Len(t, report.Leases, 2)
	for i, ttl := range []time.Duration{time.Hour, time.Minute} {
		got, err := c.TimeToLive(ctx, report.Leases[old[i]])
		require.NoError(t, err)
		require.Equal(t, ttl, got.GrantedTTL)
		require.Equal(t, []string{fmt.Sprintf("/0%d", i), fmt.Sprintf("/1%d", i), fmt.Sprintf("/2%d", i)}, got.Keys)
		require.NoError(t, c.RevokeLease(ctx, report.Leases[old[i]]))
	}
	requireValues(t, c, "/", map[string]string{"/x": "v"})

	report, err = c.Import(ctx, stream(ended))
	require.NoError(t, err)
	require.EqualValues(t, 3, report.LeftOut, "their lease has ended")
	require.Len(t, report.Leases, 1)
	require.NoError(t, c.RevokeLease(ctx, report.Leases[old[0]]))

	_, err = c.Import(ctx, strings.NewReader(noted))
	require.ErrorIs(t, err, etcd.ErrInvalidArgument)
	for _, file := range []string{file, noted, ended} {
		report, err = c.Import(ctx, strings.NewReader(file), etcd.WithoutLeasedKeys())
		require.NoError(t, err)
		require.EqualValues(t, 6, report.LeftOut)
		requireValues(t, c, "/", map[string]string{"/x": "v"})
		report, err = c.Import(ctx, strings.NewReader(file), etcd.WithoutLeases())
		require.NoError(t, err)
		require.EqualValues(t, 7, report.Written)
		require.Empty(t, report.Leases)
		for _, kv := range list(t, c, "/") {
			require.Zero(t, kv.Lease)
		}
		require.NoError(t, second(c.DeletePrefix(ctx, "/")))
	}
}

// gated is a reader that waits before its second part.
func gated(first, then string, wait func()) io.Reader {
	return io.MultiReader(strings.NewReader(first), calling(wait), strings.NewReader(then))
}

func TestImportRenewsItsLeasesForFurtherKeys(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	ctx := within(t, busyTimeout)
	lease, err := c.Grant(ctx, 3*time.Second)
	require.NoError(t, err)
	require.NoError(t, c.Put(ctx, "/1", nil, etcd.WithLease(lease)))
	require.NoError(t, c.Put(ctx, "/2", nil))
	require.NoError(t, c.Put(ctx, "/3", nil, etcd.WithLease(lease)))
	file := exported(t, c, "/")
	require.NoError(t, c.RevokeLease(ctx, lease))
	at := strings.Index(file, `{"key":"/3"`) // the one before is sent when it comes

	var report etcd.ImportReport
	requests := o.during(func() {
		report, err = c.Import(ctx, gated(file[:at], file[at:], func() {
			assert.Eventually(t, func() bool {
				kv, err := c.GetKV(ctx, "/1")
				if err != nil {
					return false
				}
				left, err := c.TimeToLive(ctx, kv.Lease)
				return err == nil && left.TTL < 2*time.Second
			}, busyTimeout, 10*time.Millisecond)
		}), etcd.WithChunkKeys(1))
	})
	require.NoError(t, err)
	require.Contains(t, requests, "LeaseKeepAlive")
	status, err := c.TimeToLive(ctx, report.Leases[lease])
	require.NoError(t, err)
	require.Equal(t, []string{"/1", "/3"}, status.Keys)
	require.NoError(t, c.RevokeLease(ctx, report.Leases[lease]))

	// Too late, when the lease has gone with its keys: another one is granted.
	watch := c.Watch(ctx, "/1", etcd.WithOnly(etcd.EventDelete))
	report, err = c.Import(ctx, gated(file[:at], file[at:], func() {
		assert.NoError(t, (<-watch).Err())
	}), etcd.WithChunkKeys(1))
	require.NoError(t, err)
	status, err = c.TimeToLive(ctx, report.Leases[lease])
	require.NoError(t, err)
	require.Equal(t, []string{"/3"}, status.Keys)
}

func TestDryImportSendsNothingAndFindsUnwritableValues(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	fill(t, c, "/k", 100)
	require.NoError(t, c.Put(t.Context(), "/large", make([]byte, 10_000)))
	lease, err := c.Grant(t.Context(), time.Hour)
	require.NoError(t, err)
	require.NoError(t, c.Put(t.Context(), "/leased", nil, etcd.WithLease(lease)))
	file := exported(t, c, "/", etcd.WithDecryptedValues())
	for _, in := range []io.Reader{strings.NewReader(file), stream(file)} {
		require.Empty(t, o.during(func() {
			report, err := c.Import(t.Context(), in, etcd.WithDryRun(), etcd.WithOnlyMissing(), etcd.WithEmptyTarget())
			require.NoError(t, err)
			require.Equal(t, etcd.ImportReport{
				Revision: report.Revision, Keys: 102, Written: 102, Leases: map[etcd.LeaseID]etcd.LeaseID{},
			}, report)
		}))
	}
	readOnly, err := etcd.NewEncryptionKey(testKey)
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		change func(*etcd.Config)
		want   error
	}{
		"too large":      {func(cfg *etcd.Config) { cfg.WithMaxRequestBytes(5000) }, etcd.ErrTooLarge},
		"key too long":   {func(cfg *etcd.Config) { cfg.WithMaxKeyBytes(6) }, etcd.ErrTooLarge},
		"no primary key": {func(cfg *etcd.Config) { cfg.WithKeyring(ringOf(t, nil, readOnly)) }, etcd.ErrNoPrimaryKey},
	} {
		cfg := config(srv)
		tc.change(cfg)
		to := client(t, cfg)
		for _, opts := range [][]etcd.ImportOption{nil, {etcd.WithDryRun()}} {
			requireRefused(t, o, name, tc.want, func() error { return second(to.Import(t.Context(), strings.NewReader(file), opts...)) })
		}
	}
}

func TestFailedExportFailsTheImportReadingIt(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	fill(t, c, "/k", 3000)
	in, out := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		_, err := c.Export(t.Context(), &closing{out, 3}, "/")
		out.CloseWithError(err)
		failed <- err
	}()
	_, err := c.Import(t.Context(), in)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	requireOp(t, err, "import", "")
	require.ErrorIs(t, <-failed, io.ErrClosedPipe)
}

// closing is a writer that fails after n writes.
type closing struct {
	io.Writer
	n int
}

func (c *closing) Write(b []byte) (int, error) {
	if c.n--; c.n < 0 {
		return 0, io.ErrClosedPipe
	}
	return c.Writer.Write(b)
}

func TestImportCountsALostAnswerAsUnknown(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	fill(t, c, "/k", 300)
	file := exported(t, c, "/")
	require.NoError(t, second(c.DeletePrefix(t.Context(), "/k")))
	ctx, cancel := context.WithCancel(t.Context())
	txns, returned := 0, make(chan struct{})
	o.around(nil, func(req any) {
		if _, ok := req.(*pb.TxnRequest); ok {
			if txns++; txns == 2 {
				cancel()
				<-returned // else the answer may come first
			}
		}
	})
	report, err := c.Import(ctx, strings.NewReader(file), etcd.WithChunkKeys(100), etcd.WithParallelism(1))
	close(returned)
	o.around(nil, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, etcd.MaybeApplied(err))
	require.EqualValues(t, 100, report.Written)
	require.Equal(t, "/k00099\x00", report.Next)

	report, err = c.Import(t.Context(), strings.NewReader(file), etcd.WithResumeAt(report.Next), etcd.WithOnlyMissing())
	require.NoError(t, err)
	require.EqualValues(t, 100, report.Existing, "it was applied")
	require.EqualValues(t, 100, report.Written)
}
