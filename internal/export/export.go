// Package export reads and writes the file format of exports, which docs/export.md
// describes: one JSON object per line. The first line is about the whole file, the last
// one holds a count and a checksum, and the lines in between hold an entry for each key.
// The package knows nothing of servers or encryption.
//
// There is exactly one way to write anything. So a reader needs no rules for what is
// repeated, unknown, misspelled, out of place or otherwise lossy: it writes again what it
// has understood, and compares.
package export

import "errors"

// ErrBad is part of every error about the content of a file. The text names the line and
// quotes nothing from it.
var ErrBad = errors.New("bad export")

const (
	format  = "etcd-export"
	version = 1

	// MaxLine is the longest line in bytes, including its end: room for twice the 16 MiB
	// that a compressed value may hold, with each character escaped.
	MaxLine = 64 << 20

	// NoTTL is the LeaseTTL of an entry that records none.
	NoTTL = -1

	// maxTTL is the longest time to live in seconds that a server grants.
	maxTTL = 9_000_000_000
)

// Header describes a file.
type Header struct {
	// Stored says that the values of all entries are as stored.
	Stored bool
	// Namespace is part of the keys that values as stored belong to. It is recorded only
	// with those.
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
	// LeaseTTL is the granted time to live of the lease in seconds, 0 if the lease had
	// ended, or NoTTL.
	LeaseTTL int64
}

// trailer is the last line: the number of entries, and the SHA-256 of all lines before
// it.
type trailer struct {
	count  int64
	digest []byte
}
