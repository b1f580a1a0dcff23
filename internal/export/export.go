// Package export reads and writes the file format of exports, which docs/export.md
// describes: one object of JSON a line, the first about the whole, the last with a
// count and a checksum, and an entry for each key between them. It knows nothing of
// a server or of encryption.
//
// There is exactly one way to write anything. So a reader needs no rules for what
// is repeated, unknown, misspelled, out of place or lossy in other ways: it writes
// what it has understood, and compares.
package export

import "errors"

// ErrBad is part of each error about what a file holds. The text names the line and
// quotes nothing of it.
var ErrBad = errors.New("bad export")

const (
	format  = "etcd-export"
	version = 1

	// MaxLine is the longest line in bytes, its end included: room for twice the
	// 16 MiB that a compressed value may hold, each of its characters escaped.
	MaxLine = 64 << 20

	// NoTTL is the LeaseTTL of an entry that notes none.
	NoTTL = -1

	// maxTTL is the longest time to live in seconds that a server grants.
	maxTTL = 9_000_000_000
)

// Header says what a file is about.
type Header struct {
	// Stored says that the values of all entries are as stored.
	Stored bool
	// Namespace is part of the keys that values as stored belong to, and noted with
	// those only.
	Namespace string
	Prefix    string
	Revision  int64
}

// Entry is a key with its value and what was known about it.
type Entry struct {
	Key   string // without the namespace
	Value []byte
	// Stored says that Value is as stored.
	Stored         bool
	CreateRevision int64
	ModRevision    int64
	Version        int64
	Lease          int64 // 0 means none
	// LeaseTTL is the time in seconds that the lease was granted for, 0 if it had
	// ended, or NoTTL.
	LeaseTTL int64
}

// trailer is the last line: how many entries there are, and the SHA-256 of all
// lines before it.
type trailer struct {
	count  int64
	digest []byte
}
