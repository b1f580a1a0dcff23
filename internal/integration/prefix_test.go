package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd"
)

// Every way to ask for a prefix agrees with strings.HasPrefix, for each prefix
// of each odd key.
func TestPrefixMeansWhatItSays(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx := t.Context()
		all := map[string][]byte{}
		for _, key := range oddKeys {
			all[key] = []byte(key)
		}
		require.NoError(t, c.BulkPut(ctx, all))
		prefixes := []string{"", "none", "\xff\xff\xff"}
		for _, key := range oddKeys {
			prefixes = append(prefixes, key, key[:len(key)/2+1])
		}
		for _, prefix := range prefixes {
			want := []string{}
			for key := range all {
				if strings.HasPrefix(key, prefix) {
					want = append(want, key)
				}
			}
			slices.Sort(want)

			keys, err := c.List(ctx, prefix)
			require.NoError(t, err)
			require.Equal(t, want, keys, "%q", prefix)
			values, err := c.ListWithValues(ctx, prefix)
			require.NoError(t, err)
			require.Len(t, values, len(want))
			for _, key := range want {
				require.Equal(t, key, string(values[key]))
			}
			count, err := c.Count(ctx, prefix)
			require.NoError(t, err)
			require.Equal(t, int64(len(want)), count)
			kvs, err := c.GetPrefix(ctx, prefix, 0)
			require.NoError(t, err)
			require.Equal(t, want, keysOf(kvs))
			requireHolds(t, c, len(want) == 0, prefix, etcd.PrefixEmpty(prefix))
		}
		for _, prefix := range []string{"\xff", "a\xff", "\x00", "a"} {
			want := 0
			for key := range all {
				if strings.HasPrefix(key, prefix) {
					want++
					delete(all, key)
				}
			}
			deleted, err := c.DeletePrefix(ctx, prefix)
			require.NoError(t, err)
			require.Equal(t, int64(want), deleted, "%q", prefix)
			count, err := c.Count(ctx, "")
			require.NoError(t, err)
			require.Equal(t, int64(len(all)), count)
		}
	})
}

func TestDeletePrefixOfEverythingMustBeAskedFor(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a": nil, p + "b": nil}))
		require.Empty(t, o.during(func() {
			_, err := c.DeletePrefix(ctx, "")
			require.ErrorIs(t, err, etcd.ErrEmptyPrefix)
			_, err = c.Txn().Then(etcd.OpDeletePrefix("")).Commit(ctx)
			require.ErrorIs(t, err, etcd.ErrEmptyPrefix)
			_, err = c.Txn().Else(etcd.OpDeletePrefix("")).Commit(ctx)
			require.ErrorIs(t, err, etcd.ErrEmptyPrefix)
			r := <-c.WatchPrefix(ctx, "")
			require.ErrorIs(t, r.Err(), etcd.ErrEmptyPrefix)
		}))
		deleted, err := c.DeletePrefix(ctx, "", etcd.WithAllKeys())
		require.NoError(t, err)
		require.Equal(t, int64(2), deleted)
	})
}

func TestGetRangeIncludesStartAndExcludesEnd(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx := t.Context()
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{"\x00": nil, "a": []byte("1"), "a\x00": nil, "b": nil, "c": nil, "\xff\xff": nil}))
		for _, tc := range []struct {
			start, end string
			opts       []etcd.GetOption
			want       []string
		}{
			{"a", "c", nil, []string{"a", "a\x00", "b"}},
			{"a", "a\x00", nil, []string{"a"}},
			{"aa", "bb", nil, []string{"b"}},
			{"d", "e", nil, []string{}},
			{"b", "", nil, []string{"b", "c", "\xff\xff"}},
			{"", "b", nil, []string{"\x00", "a", "a\x00"}},
			{"", "", nil, []string{"\x00", "a", "a\x00", "b", "c", "\xff\xff"}},
			{"", "", []etcd.GetOption{etcd.WithLimit(2)}, []string{"\x00", "a"}},
			{"", "a", []etcd.GetOption{etcd.WithLimit(2)}, []string{"\x00"}},
		} {
			kvs, err := c.GetRange(ctx, tc.start, tc.end, tc.opts...)
			require.NoError(t, err)
			require.Equal(t, tc.want, keysOf(kvs), "%q to %q", tc.start, tc.end)
		}
		require.Empty(t, o.during(func() {
			for _, tc := range [][2]string{{"b", "a"}, {"b", "b"}, {"", "\x00"}, {"\x00", "\x00"}} {
				_, err := c.GetRange(ctx, tc[0], tc[1])
				require.ErrorIs(t, err, etcd.ErrInvalidArgument, "%q to %q", tc[0], tc[1])
			}
		}))
	})
}

func TestGetPrefixStopsAtItsLimit(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a": []byte("1"), p + "b": []byte("2"), p + "c": []byte("3")}))
		for limit, want := range map[int64][]string{0: {p + "a", p + "b", p + "c"}, 2: {p + "a", p + "b"}, 5: {p + "a", p + "b", p + "c"}} {
			kvs, err := c.GetPrefix(ctx, p, limit)
			require.NoError(t, err)
			require.Equal(t, want, keysOf(kvs))
			require.Equal(t, "1", string(kvs[0].Value))
			keys, err := c.List(ctx, p, etcd.WithLimit(limit))
			require.NoError(t, err)
			require.Equal(t, want, keys)
		}
	})
}

func TestPatternMatchesAsPathMatch(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx := t.Context()
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{
			"/users/ann/email": nil, "/users/bob/email": nil, "/users/bob/name": nil, "/users/email": nil,
			"/users/b*b": nil, "/users/bxb": nil,
		}))
		for pattern, want := range map[string][]string{
			"/users/*/email": {"/users/ann/email", "/users/bob/email"},
			"/users/*":       {"/users/b*b", "/users/bxb", "/users/email"},
			"/users/b?b":     {"/users/b*b", "/users/bxb"},
			`/users/b\*b`:    {"/users/b*b"},
			"/users/[a-b]*/name": {
				"/users/bob/name",
			},
			"/users/email": {"/users/email"},
			"/none/*":      nil,
			"":             nil,
		} {
			keys, err := c.GetKeysByPattern(ctx, pattern)
			require.NoError(t, err)
			require.Equal(t, want, keys, pattern)
		}
		require.Empty(t, o.during(func() {
			for _, pattern := range []string{"[", "/users/[a-", "a/b[", `a\`} {
				_, err := c.GetKeysByPattern(ctx, pattern)
				require.ErrorIs(t, err, etcd.ErrInvalidArgument, pattern)
			}
		}))
	})
}

// What asks for keys alone must not make the server send their values.
func TestKeysAreReadWithoutTheirValues(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.Put(ctx, p+"key", []byte("value")))
		var read *pb.RangeRequest
		o.around(func(req any) {
			switch r := req.(type) {
			case *pb.RangeRequest:
				read = r
			case *pb.TxnRequest:
				read = r.Success[len(r.Success)-1].GetRequestRange()
			}
		}, nil)
		for name, call := range map[string]func() error{
			"List":              func() error { return second(c.List(ctx, p)) },
			"GetKeysByPattern":  func() error { return second(c.GetKeysByPattern(ctx, p+"*")) },
			"OpListPrefix":      func() error { return second(c.Txn().Then(etcd.OpListPrefix(p)).Commit(ctx)) },
			"MoveKey, its goal": func() error { return notFound(c.MoveKey(ctx, p+"none", p+"key")) },
			"Exists":            func() error { return second(c.Exists(ctx, p+"key")) },
			"Count":             func() error { return second(c.Count(ctx, p)) },
		} {
			read = nil
			require.NoError(t, call(), name)
			require.True(t, read.GetKeysOnly() || read.GetCountOnly(), name)
		}
	})
}

// notFound makes an error of anything but ErrKeyNotFound.
func notFound(err error) error {
	if errors.Is(err, etcd.ErrKeyNotFound) {
		return nil
	}
	return fmt.Errorf("is not %w: %w", etcd.ErrKeyNotFound, err)
}
