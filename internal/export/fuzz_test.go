package export_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/blueprint-go/etcd/internal/export"
)

// FuzzEntry: whatever a key and its value are, they come back as they were.
func FuzzEntry(f *testing.F) {
	for _, e := range entries {
		f.Add(e.Key, e.Value, e.Stored, e.Lease, e.LeaseTTL)
	}
	f.Add("\x00", []byte("\ufffd\xed\xa0\x80"), true, int64(-1), int64(9_000_000_000))
	f.Fuzz(func(t *testing.T, key string, value []byte, stored bool, lease, ttl int64) {
		if key == "" || ttl < export.NoTTL || ttl > 9_000_000_000 {
			return // there is no such entry
		}
		want := export.Entry{
			Key: key, Value: value, Stored: stored, CreateRevision: 1, ModRevision: 2, Version: 3, Lease: lease, LeaseTTL: ttl,
		}
		if lease == 0 {
			want.LeaseTTL = export.NoTTL
		}
		file := write(t, export.Header{Prefix: key, Revision: 2}, want)
		h, all, err := read(strings.NewReader(file))
		if err != nil || h.Prefix != key || len(all) != 1 {
			t.Fatalf("%v: %q", err, file)
		}
		got := all[0]
		if !bytes.Equal(got.Value, want.Value) {
			t.Fatalf("value %q came back as %q", want.Value, got.Value)
		}
		got.Value, want.Value = nil, nil
		if got.Key != want.Key || got.Stored != stored || got.Lease != lease || got.LeaseTTL != want.LeaseTTL {
			t.Fatalf("%+v came back as %+v", want, got)
		}
	})
}

// FuzzReader: whatever is read as a file is the one way to write what it holds.
func FuzzReader(f *testing.F) {
	f.Add(sample)
	f.Add(write(f, export.Header{Prefix: "/a", Revision: 9}, entries...))
	f.Add(write(f, export.Header{Stored: true, Namespace: "n", Prefix: "\xff", Revision: 1}))
	f.Fuzz(func(t *testing.T, lines string) {
		// Sealed, as no mutation makes a checksum right.
		for _, file := range []string{lines, sealed(lines)} {
			h, all, err := read(strings.NewReader(file))
			if err != nil {
				continue
			}
			if again := write(t, h, all...); again != file {
				t.Fatalf("%q is read as %q", file, again)
			}
		}
	})
}
