package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is the error of a request: what was asked, what went wrong, and whether
// it may have taken effect. Its chain holds the sentinels and, for a failed
// connection, an [*EndpointError] for each endpoint with the true cause.
type Error struct {
	// Op is the call that failed, in lower case, such as "put", "commit" or "campaign", whatever
	// requests it has made: the grant of a lease that a campaign needs fails as "campaign". A call
	// that is made of several others names the one that failed: [Client.WithLock] "new lock",
	// "lock", "unlock" or "close lock", [Client.Lead] "campaign", "resign" or "close election".
	Op string
	// Key is the first key concerned, without the namespace; empty if there is
	// none.
	Key string
	// Sent reports whether a request left this process. False means that the
	// operation was certainly not applied.
	Sent bool
	// MaybeApplied reports whether a write may have taken effect. It is false
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

// fail returns the error of a call that ended before it came to a request.
func fail(op, key string, err error) error {
	return &Error{Op: op, Key: key, Err: err}
}

// ofCall returns the error of a request as that of the call which made it, such as a grant that a
// campaign needs; nil for nil.
func ofCall(op, key string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := err.(*Error) //nolint:errorlint // what the call returns itself
	if !ok {
		return fail(op, key, err)
	}
	own := *e
	own.Op, own.Key = op, key
	return &own
}

// answered returns the error of a request that was answered and whose values
// could not all be decoded; nil for nil.
func answered(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Key: key, Sent: true, Err: err}
}

// maybeApplied notes in the error of a request that one before it may have been
// applied.
func maybeApplied(err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.MaybeApplied = true
	}
	return err
}

// requestErrors returns every [*Error] in the tree of err.
func requestErrors(err error) []*Error {
	var out []*Error
	if e, ok := err.(*Error); ok { //nolint:errorlint // the tree is walked here
		out = append(out, e)
	}
	switch e := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() error }:
		out = append(out, requestErrors(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			out = append(out, requestErrors(one)...)
		}
	}
	return out
}

// IsRetryable reports whether the same call may succeed when it is made again:
// the cluster was unavailable, had no leader, shed load, or did not answer in
// time; a key that is kept elsewhere could not be had; or a stored keyring was not
// known to be current ([ErrKeyringStale]). For a write, ask [MaybeApplied] as well: a
// retry of a write that was applied applies it twice. An error of the caller's own
// context is not retryable when that context was cancelled, and no [ErrLockLost] or
// [ErrLeaseLost] is, whatever the reason.
func IsRetryable(err error) bool {
	switch {
	case err == nil, errors.Is(err, ErrClosed), isAny(err, context.Canceled, ErrLockLost, ErrLeaseLost):
		return false
	}
	return isAny(err, ErrUnavailable, ErrNoLeader, ErrTimeout, ErrTooManyRequests, ErrKeyUnavailable, ErrKeyringStale)
}

// isAny reports whether err is one of some sentinels.
func isAny(err error, sentinels ...error) bool {
	return slices.ContainsFunc(sentinels, func(s error) bool { return errors.Is(err, s) })
}

// MaybeApplied reports whether the write that returned err may have taken effect: whether
// any [*Error] in the tree of err says so. It is false for nil, for errors of reads, for
// requests that were never sent, and for those that the server certainly refused; of
// [ErrNoSpace] it is true, since the write that exceeds the quota is applied. When it is
// true, only reading the key can tell, see [Client.Settle]: this package sends a write
// twice only where that changes nothing ([WithGuard], grants and revocations).
func MaybeApplied(err error) bool {
	return slices.ContainsFunc(requestErrors(err), func(e *Error) bool { return e.MaybeApplied })
}
