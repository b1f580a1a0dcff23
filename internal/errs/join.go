package errs

import (
	"context"
	"errors"
	"strings"
)

// sentinelError puts a sentinel over a cause: both match, and the text names each once.
type sentinelError struct {
	kind  error
	cause error
}

func (e *sentinelError) Error() string {
	kind, cause := e.kind.Error(), e.cause.Error()
	if strings.Contains(cause, kind) {
		return cause
	}
	return kind + ": " + cause
}

func (e *sentinelError) Unwrap() []error { return []error{e.kind, e.cause} }

// unspoken puts a sentinel over a cause whose text may quote a value: both match, and the
// text is that of the sentinel alone.
type unspoken struct{ kind, cause error }

func (e *unspoken) Error() string { return e.kind.Error() }

func (e *unspoken) Unwrap() []error { return []error{e.kind, e.cause} }

// WithUnspoken returns cause under kind, with the text of kind alone.
func WithUnspoken(kind, cause error) error { return &unspoken{kind, cause} }

// WithKind returns cause under kind; both match. A nil cause gives kind itself.
func WithKind(kind, cause error) error {
	if cause == nil {
		return kind
	}
	return &sentinelError{kind: kind, cause: cause}
}

// WithDetail returns err with a further cause beside it; a nil detail changes nothing.
func WithDetail(err, detail error) error {
	if detail == nil {
		return err
	}
	return &detailError{err: err, detail: detail}
}

// detailError is an error with a further cause: both match.
type detailError struct{ err, detail error }

func (e *detailError) Error() string { return e.err.Error() + ": " + e.detail.Error() }

func (e *detailError) Unwrap() []error { return []error{e.err, e.detail} }

// Join joins errs like [errors.Join], but with semicolons instead of line ends, which
// would tear a log entry apart. It returns nil if errs is empty.
func Join(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return joined(errs)
}

type joined []error

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }

// OfContext returns the error of a context that has ended, with its cause, or whose
// deadline has passed.
func OfContext(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		err = context.DeadlineExceeded
	}
	if cause := context.Cause(ctx); !errors.Is(cause, err) {
		err = WithKind(err, cause)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = WithKind(ErrTimeout, err)
	}
	return err
}
