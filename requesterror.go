package etcd

import (
	"fmt"
	"strings"
)

// Error is the error of a request: what was asked, what went wrong, and whether
// it may have taken effect. Its chain holds the sentinels and, for a failed
// connection, an [*EndpointError] for each endpoint with the true cause.
type Error struct {
	// Op is the operation in lower case, such as "put" or "txn".
	Op string
	// Key is the first key concerned, without the namespace; empty if there is
	// none.
	Key string
	// Sent tells whether a request left this process. False means that the
	// operation was certainly not applied.
	Sent bool
	// MaybeApplied tells whether a write may have taken effect. It is false
	// for reads, for requests that were never sent and for those that the
	// server refused.
	MaybeApplied bool
	// Err is what went wrong.
	Err error

	lost *lostWrite // for Settle; nil unless MaybeApplied
}

// Error implements error. The text never holds values or secrets.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("etcd: ")
	b.WriteString(e.Op)
	if e.Key != "" {
		fmt.Fprintf(&b, " %q", e.Key)
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	if e.MaybeApplied {
		b.WriteString(" (the write may have been applied)")
	}
	return b.String()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// DecodeError says that a stored value could not be decoded, and why. It is one
// of the errors joined into the result of a list, and the error of a watch
// event, beside the values that could be decoded.
type DecodeError struct {
	// Key is the key of the value, without the namespace.
	Key string
	// Err is one of [ErrNotEncrypted], [ErrUnsupportedFormat], [ErrCorrupt],
	// [ErrUnknownKey], [ErrDecrypt], [ErrValueTooLarge] and, from [Typed],
	// [ErrEncoding].
	Err error
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("etcd: decode %q: %v", e.Key, e.Err)
}

// Unwrap returns e.Err.
func (e *DecodeError) Unwrap() error { return e.Err }

// EndpointError says why an endpoint could not be used, or that an answer came
// from there which isn't etcd's.
type EndpointError struct {
	// Endpoint is the endpoint as configured.
	Endpoint string
	// Err is the true cause: what the dialer or the TLS handshake said, under
	// a sentinel such as [ErrConnectionRefused] where there is one.
	Err error
}

// Error implements error.
func (e *EndpointError) Error() string { return e.Endpoint + ": " + e.Err.Error() }

// Unwrap returns e.Err.
func (e *EndpointError) Unwrap() error { return e.Err }
