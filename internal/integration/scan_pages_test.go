package integration

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// behindThePage returns the method by which what is left of a long list is read, once
// the client knows whether the server has streams.
func behindThePage(t *testing.T, c *etcd.Client, srv *etcdtest.Server) string {
	t.Helper()
	for _, err := range c.Scan(t.Context(), "none/") {
		require.NoError(t, err)
	}
	if since(t, srv, 3, 7) {
		return "RangeStream"
	}
	return "Range"
}

// beforeSecondPage has act called after the first page of each list that follows: the
// requests after it name the revision of the first.
func beforeSecondPage(o *observer, act func()) {
	o.around(func(req any) {
		if r, ok := req.(*pb.RangeRequest); ok && r.Revision > 0 {
			act()
		}
	}, nil)
}

func TestLongListIsOneMomentOverSeveralPages(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithNamespace("space/").WithTimeout(busyTimeout))
	ctx, p := t.Context(), "list/"
	rest := behindThePage(t, c, srv)
	keys := manyKeys(t, c, p)
	// It changes what has been read, what has not, and adds to it.
	beforeSecondPage(o, func() {
		assert.NoError(t, c.BulkPut(ctx, map[string][]byte{keys[0]: []byte("new"), keys[10_001]: []byte("new"), p + "10000+": nil, p + "z": nil}))
	})
	twice := []string{"Range", rest, "Txn"}
	restore := func() {
		_, err := c.BulkDelete(ctx, []string{p + "10000+", p + "z"})
		require.NoError(t, err)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{keys[0]: []byte("v"), keys[10_001]: []byte("v")}))
	}

	for name, list := range map[string]func() (got []string, values map[string]bool, err error){
		"List": func() (got []string, _ map[string]bool, err error) {
			got, err = c.List(ctx, p)
			return got, nil, err
		},
		"ListWithValues": func() (got []string, values map[string]bool, err error) {
			all, err := c.ListWithValues(ctx, p)
			values = map[string]bool{}
			for _, value := range all {
				values[string(value)] = true
			}
			for _, key := range keys {
				if _, ok := all[key]; ok && len(all) == len(keys) {
					got = append(got, key)
				}
			}
			return got, values, err
		},
		"GetKeysByPattern": func() (got []string, _ map[string]bool, err error) {
			got, err = c.GetKeysByPattern(ctx, p+"*")
			return got, nil, err
		},
		"GetRange": func() ([]string, map[string]bool, error) {
			kvs, err := c.GetRange(ctx, p, p+"~")
			return keysOf(kvs), valuesOf(kvs), err
		},
		"GetPrefix": func() ([]string, map[string]bool, error) {
			kvs, err := c.GetPrefix(ctx, p, 0)
			return keysOf(kvs), valuesOf(kvs), err
		},
	} {
		var got []string
		var values map[string]bool
		var err error
		require.ElementsMatch(t, twice, o.during(func() { got, values, err = list() }), name)
		require.NoError(t, err)
		require.Equal(t, keys, got, name)
		if values != nil {
			require.Equal(t, map[string]bool{"v": true}, values, name)
		}
		restore()
	}
}

func valuesOf(kvs []etcd.KeyValue) map[string]bool {
	values := map[string]bool{}
	for _, kv := range kvs {
		values[string(kv.Value)] = true
	}
	return values
}

func TestLimitBeyondAPage(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	behindThePage(t, c, srv)
	keys := manyKeys(t, c, prefix(t))
	for limit, pages := range map[int]int{9_999: 1, 10_000: 1, 10_001: 2, 10_050: 2, 20_000: 2} {
		var got []string
		var err error
		require.Len(t, o.during(func() { got, err = c.List(t.Context(), prefix(t), etcd.WithLimit(int64(limit))) }), pages)
		require.NoError(t, err)
		require.Equal(t, keys[:min(limit, len(keys))], got)
	}
	count, err := c.Count(t.Context(), prefix(t))
	require.NoError(t, err)
	require.Equal(t, int64(len(keys)), count)
}

func TestCompactionBetweenPagesIsAnError(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	ctx, p := t.Context(), prefix(t)
	behindThePage(t, c, srv)
	manyKeys(t, c, p)
	beforeSecondPage(o, func() {
		put, err := c.Raw().Put(ctx, "other", "")
		assert.NoError(t, err)
		_, err = c.Raw().Compact(ctx, put.Header.Revision)
		assert.NoError(t, err)
	})
	for name, list := range map[string]func() error{
		"List":             func() error { _, err := c.List(ctx, p); return err },
		"ListWithValues":   func() error { _, err := c.ListWithValues(ctx, p); return err },
		"GetRange":         func() error { _, err := c.GetRange(ctx, p, ""); return err },
		"GetPrefix":        func() error { _, err := c.GetPrefix(ctx, p, 0); return err },
		"GetKeysByPattern": func() error { _, err := c.GetKeysByPattern(ctx, p+"*"); return err },
	} {
		require.ErrorIs(t, list(), etcd.ErrCompacted, name)
	}
}

// Messages may be bounded below what a page or a chunk of a stream needs.
func TestListReadsSmallerPagesAfterTooLargeAnswers(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	srv, o := observedServer(t, etcdtest.WithGRPCServerOptions(grpc.MaxSendMsgSize(limit)))
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	ctx, p := t.Context(), prefix(t)
	want := map[string][]byte{}
	for i := range 400 {
		want[fmt.Sprintf("%s%03d", p, i)] = bytes.Repeat([]byte{byte(i)}, 2<<10)
	}
	require.NoError(t, c.BulkPut(ctx, want))
	got, err := c.ListWithValues(ctx, p)
	require.NoError(t, err)
	require.Equal(t, want, got)
	scanned := map[string][]byte{}
	for kv, err := range c.Scan(ctx, p) {
		require.NoError(t, err)
		scanned[kv.Key] = kv.Value
	}
	require.Equal(t, want, scanned)

	// A single value can't be made smaller.
	require.NoError(t, c.Put(ctx, p+"large", make([]byte, limit)))
	require.Less(t, len(o.during(func() { _, err = c.ListWithValues(ctx, p) })), 100)
	require.ErrorIs(t, err, etcd.ErrTooLarge)
	_, err = c.Get(ctx, p+"large")
	require.ErrorIs(t, err, etcd.ErrTooLarge)
}
