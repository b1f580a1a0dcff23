// Package errs holds the errors that more than one package reports, and the ways to
// combine two into one. It may import only the standard library.
package errs

import "errors"

// Sentinels of package etcd, which exports them under the same names and documents them.
var (
	ErrNilContext         = errors.New("nil context")
	ErrTooLarge           = errors.New("request is too large")
	ErrTooManyOps         = errors.New("too many operations in one transaction")
	ErrDuplicateKey       = errors.New("duplicate key in one transaction")
	ErrClosed             = errors.New("client is closed")
	ErrAuthFailed         = errors.New("authentication failed")
	ErrUnauthenticated    = errors.New("not authenticated")
	ErrPermissionDenied   = errors.New("permission denied")
	ErrUnavailable        = errors.New("unavailable")
	ErrNoLeader           = errors.New("no leader")
	ErrTimeout            = errors.New("timed out")
	ErrNoSpace            = errors.New("no space left in the server's database")
	ErrTooManyRequests    = errors.New("too many requests")
	ErrClusterCorrupt     = errors.New("cluster is corrupt")
	ErrFailedPrecondition = errors.New("failed precondition")
	ErrServer             = errors.New("server error")
	ErrConnectionRefused  = errors.New("connection refused")
	ErrUnknownAuthority   = errors.New("certificate signed by unknown authority")
	ErrWrongHostName      = errors.New("certificate is for another host name")
	ErrCertificateExpired = errors.New("certificate has expired or is not yet valid")
	ErrClientCertificate  = errors.New("client certificate missing or refused")
	ErrNotTLS             = errors.New("server does not speak TLS")
	ErrTLSRequired        = errors.New("server requires TLS")
	ErrNotEtcd            = errors.New("endpoint does not speak etcd's protocol")
	ErrCompacted          = errors.New("revision has been compacted")
	ErrFutureRevision     = errors.New("revision is in the future")
	ErrLeaseNotFound      = errors.New("lease not found")
	ErrLeaseExists        = errors.New("lease exists")
	ErrEmptyKey           = errors.New("empty key")
	ErrKeyNotFound        = errors.New("key not found")
	ErrInvalidTTL         = errors.New("invalid time to live")
	ErrInvalidArgument    = errors.New("invalid argument")
	ErrCredentials        = errors.New("no credentials")
)
