package envelope

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// AEAD is authenticated encryption from outside, such as a key management service or a keyset. It must be safe for
// concurrent use, must authenticate associatedData, and must retain neither argument. It has the shape of Tink's
// AEAD.
type AEAD interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// ContextAEAD is an AEAD whose calls end with a context. It has the shape of Tink's AEADWithContext.
type ContextAEAD interface {
	EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}

// maxExternalCalls is how many calls of one external AEAD may be under way. It bounds the goroutines that are stuck
// forever in an AEAD that hangs and ignores its context.
const maxExternalCalls = 128

// external calls an AEAD from outside in such a way that callers don't hang with it.
type external struct {
	aead   ContextAEAD
	places chan struct{} // taken by the calls under way
}

func newExternal(aead AEAD) *external {
	e := &external{places: make(chan struct{}, maxExternalCalls)}
	if withContext, ok := aead.(ContextAEAD); ok {
		e.aead = withContext
	} else {
		e.aead = contextless{aead}
	}
	return e
}

// contextless is an AEAD that can't be told to stop.
type contextless struct{ aead AEAD }

func (c contextless) EncryptWithContext(_ context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return c.aead.Encrypt(plaintext, associatedData)
}

func (c contextless) DecryptWithContext(_ context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return c.aead.Decrypt(ciphertext, associatedData)
}

// encrypt seals plaintext. Any failure is ErrKeyUnavailable: the value is never at fault.
func (e *external) encrypt(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	sealed, err := e.call(ctx, e.aead.EncryptWithContext, plaintext, associatedData)
	if err != nil {
		return nil, unavailable(err)
	}
	return sealed, nil
}

// decrypt opens a ciphertext. It returns ErrDecrypt only if the ciphertext certainly does not open: either the AEAD
// returns ErrDecrypt, or it fails without any known sign of an outage, works for other data at that time, and fails
// again. Everything else is ErrKeyUnavailable. Most AEADs don't distinguish the two, and mistaking an outage for
// tampering would lose values.
func (e *external) decrypt(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	for proven := false; ; proven = true {
		plaintext, err := e.call(ctx, e.aead.DecryptWithContext, ciphertext, associatedData)
		switch {
		case err == nil:
			return plaintext, nil
		case errors.Is(err, ErrDecrypt):
			return nil, ErrDecrypt
		case outage(err):
			return nil, unavailable(err)
		case proven:
			return nil, ErrDecrypt
		}
		if failed := e.prove(ctx); failed != nil {
			if failed.Error() != err.Error() {
				err = fmt.Errorf("%w; and then %w", err, failed)
			}
			return nil, unavailable(err)
		}
	}
}

// prove returns why the AEAD does not work, using data of its own.
func (e *external) prove(ctx context.Context) error {
	probe := []byte("etcd value encryption: is the key there?")
	sealed, err := e.call(ctx, e.aead.EncryptWithContext, probe, probe)
	if err != nil {
		return err
	}
	opened, err := e.call(ctx, e.aead.DecryptWithContext, sealed, probe)
	if err == nil && !bytes.Equal(opened, probe) {
		return errors.New("it does not open what it sealed")
	}
	return err
}

// operation is one of the two methods of a ContextAEAD.
type operation func(ctx context.Context, text, associatedData []byte) ([]byte, error)

// outcome is the result of a call.
type outcome struct {
	text     []byte
	err      error
	panicked any
}

// call calls the AEAD and returns when ctx ends at the latest.
func (e *external) call(ctx context.Context, f operation, text, associatedData []byte) ([]byte, error) {
	if ctx.Done() == nil { // the caller waits as long as it takes
		return f(ctx, text, associatedData)
	}
	select {
	case e.places <- struct{}{}:
	case <-ctx.Done():
		return nil, contextCause(ctx)
	}
	// The caller may be gone, and reuse these, while the AEAD still reads them.
	text, associatedData = bytes.Clone(text), bytes.Clone(associatedData)
	done := make(chan outcome, 1)
	// Owned by this call while its context lasts. Nobody can end an AEAD that ignores the context: then the goroutine
	// ends with the AEAD's call. There are at most maxExternalCalls of them.
	go func() {
		defer func() { <-e.places }()
		out := outcome{panicked: errAborted}
		defer func() {
			if out.panicked != nil {
				if r := recover(); r != nil {
					out.panicked = r
				}
			}
			done <- out
		}()
		out.text, out.err = f(ctx, text, associatedData)
		out.panicked = nil
	}()
	select {
	case out := <-done:
		if out.panicked != nil {
			panic(out.panicked) // a bug is not hidden from the caller that met it
		}
		return out.text, out.err
	case <-ctx.Done():
		return nil, contextCause(ctx)
	}
}

// errAborted stands for a call that ended its goroutine (runtime.Goexit).
var errAborted = errors.New("envelope: the external AEAD ended its goroutine")

// contextCause returns why ctx ended, so that both its error and its cause match.
func contextCause(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

func unavailable(err error) error {
	if errors.Is(err, ErrKeyUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrKeyUnavailable, err)
}

// outage reports whether the kind of an error points to the way to a key and not to a value.
func outage(err error) bool {
	for _, kind := range []error{ErrKeyUnavailable, context.DeadlineExceeded, context.Canceled, os.ErrDeadlineExceeded} {
		if errors.Is(err, kind) {
			return true
		}
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	if s, ok := status.FromError(err); ok {
		switch s.Code() {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted, codes.Aborted,
			codes.Internal, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
			return true
		}
	}
	return false
}
