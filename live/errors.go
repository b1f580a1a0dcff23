package live

import (
	"errors"
	"fmt"
	"strings"

	"github.com/blueprint-go/etcd"
)

var (
	// ErrUnknownField says that a key, or a name in a document, names no field; [WithStrict]
	// makes that an error.
	ErrUnknownField = errors.New("names no field")

	// ErrSameField says that two keys, or two names in a document, name the same field or entry
	// of a map, such as "1" and "01" of a map[int]string, or one a field and the other a part
	// of it.
	ErrSameField = errors.New("two names for one field")

	// ErrValidateTimeout says that a configuration was not made and validated within
	// [WithValidateTimeout]. It is taken if it turns out to be good later.
	ErrValidateTimeout = errors.New("not validated in time")

	// ErrLastGood says that the file of [WithLastGood] can't be used: it is damaged, was written
	// for another prefix or key, or can't be decrypted, which looks the same. A file that can't
	// be opened has the errors of package os.
	ErrLastGood = errors.New("not a configuration of this prefix")
)

// RejectedError says why a configuration was not taken.
type RejectedError struct {
	// Revision is the revision of etcd that the configuration is of.
	Revision int64
	// Key is the first key concerned, with its prefix; empty if it is none in particular.
	Key string
	// Field is the path of the first field concerned, as in [Change.Fields]; empty if it is
	// none in particular.
	Field string
	// Err is the reason, or several joined, each a [*FieldError]. It is
	//   - the error of the function of [WithValidate], as it is;
	//   - a [*PanicError] if a function of the application panicked;
	//   - [ErrValidateTimeout];
	//   - an [*etcd.DecodeError] for a value that could not be decoded or decrypted;
	//   - [etcd.ErrEncoding] for a value that doesn't fit its field, or isn't a document;
	//   - [ErrSameField] or [ErrUnknownField];
	//   - [etcd.ErrKeyNotFound] if there is no key, see [Open].
	Err error
}

// Error implements error. The text names keys and fields, and holds no value, except what
// the error of the application's own function says.
func (e *RejectedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "live: configuration of revision %d refused: ", e.Revision)
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns e.Err.
func (e *RejectedError) Unwrap() error { return e.Err }

// FieldError says what is wrong with one key or field.
type FieldError struct {
	// Key is the key, with its prefix; empty if it is none in particular.
	Key string
	// Field is the path of the field, as in [Change.Fields]; empty if it is none in particular.
	Field string
	// Err is what is wrong.
	Err error
}

// Error implements error. The text holds no value.
func (e *FieldError) Error() string {
	var b strings.Builder
	if e.Key != "" {
		fmt.Fprintf(&b, "%q", e.Key)
	}
	if e.Field != "" {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "(field %s)", e.Field)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if undecoded, ok := errors.AsType[*etcd.DecodeError](e.Err); ok {
		b.WriteString(undecoded.Err.Error()) // the key has been named
	} else {
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns e.Err.
func (e *FieldError) Unwrap() error { return e.Err }

// PanicError says that a function of the application panicked while a configuration was
// made or validated.
type PanicError struct {
	// Value is what the function panicked with; nil if it ended its goroutine.
	Value any
	// Stack is the stack of that moment, as [runtime/debug.Stack] formats it.
	Stack []byte
}

// Error implements error. The text leaves out Value, which may hold a secret.
func (e *PanicError) Error() string {
	if e.Value == nil {
		return "a function of the application ended its goroutine"
	}
	return "a function of the application panicked"
}

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// LastGoodError says that the file of [WithLastGood] could not be read or written.
type LastGoodError struct {
	// Op is "read" or "write".
	Op string
	// Path is the path as configured.
	Path string
	// Err is the reason: [ErrLastGood], a [*RejectedError] for a configuration that isn't
	// good any more, or an error of package os or of sealing.
	Err error
}

// Error implements error.
func (e *LastGoodError) Error() string {
	return fmt.Sprintf("live: %s last good configuration %q: %v", e.Op, e.Path, e.Err)
}

// Unwrap returns e.Err.
func (e *LastGoodError) Unwrap() error { return e.Err }

// rejection returns the error of a configuration that was not taken.
func rejection(revision int64, problems []*FieldError) *RejectedError {
	if len(problems) == 0 {
		return nil
	}
	first := problems[0]
	r := &RejectedError{Revision: revision, Key: first.Key, Field: first.Field, Err: first}
	if len(problems) == 1 && first.Key == "" && first.Field == "" {
		r.Err = first.Err
	}
	if len(problems) > 1 {
		all := make([]error, 0, len(problems))
		for _, p := range problems[:min(len(problems), maxProblems)] {
			all = append(all, p)
		}
		if more := len(problems) - maxProblems; more > 0 {
			all = append(all, fmt.Errorf("and %d more", more))
		}
		r.Err = errors.Join(all...)
	}
	return r
}

// maxProblems bounds how many problems of one configuration are listed.
const maxProblems = 100

// misfit says that a value doesn't fit. Its text leaves out what the decoder says, which
// may quote the value; errors.As reaches that.
type misfit struct {
	text  string
	cause error
}

func (e *misfit) Error() string { return e.text }

func (e *misfit) Is(target error) bool { return target == etcd.ErrEncoding }

func (e *misfit) Unwrap() error { return e.cause }
