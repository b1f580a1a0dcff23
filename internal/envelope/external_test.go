package envelope_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// service is an AEAD of a key service: before each call it does what it is told to.
type service struct {
	gcmAEAD
	calls  atomic.Int64
	before func(call int64) error
}

func newService(before func(call int64) error) *service {
	return &service{gcmAEAD: newGCMAEAD([]byte("thirty-two bytes of a key, yes!!")), before: before}
}

func (s *service) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	if err := s.before(s.calls.Add(1)); err != nil {
		return nil, err
	}
	return s.gcmAEAD.Encrypt(plaintext, associatedData)
}

func (s *service) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	if err := s.before(s.calls.Add(1)); err != nil {
		return nil, err
	}
	return s.gcmAEAD.Decrypt(ciphertext, associatedData)
}

func up(int64) error { return nil }

func externalKey(t *testing.T, aead envelope.AEAD) *envelope.Key {
	t.Helper()
	k, err := envelope.NewExternalKey(externalID, aead)
	require.NoError(t, err)
	return k
}

// sealedBy returns what a service that is up has sealed at /k.
func sealedBy(t *testing.T) []byte {
	t.Helper()
	stored, err := envelope.NewCodec(envelope.Params{}).Seal(bg, externalKey(t, newService(up)), "/k", []byte("v"))
	require.NoError(t, err)
	return stored
}

func TestServiceOutageKeepsItsCauseAndIsntTampering(t *testing.T) {
	t.Parallel()
	c, stored := envelope.NewCodec(envelope.Params{}), sealedBy(t)
	for name, cause := range map[string]error{
		"its own words":  errors.New("503"),
		"deadline":       fmt.Errorf("kms: %w", context.DeadlineExceeded),
		"network":        fmt.Errorf("kms: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}),
		"gRPC":           status.Error(codes.Unavailable, "down"),
		"not authorized": status.Error(codes.PermissionDenied, "no"),
	} {
		k := externalKey(t, newService(func(int64) error { return cause }))
		_, err := c.Seal(bg, k, "/k", []byte("v"))
		require.ErrorIs(t, err, envelope.ErrKeyUnavailable, name)
		require.ErrorIs(t, err, cause, name)
		again := slices.Clone(stored)
		_, err = c.Open(bg, newRing(t, k), "/k", again, nil)
		require.ErrorIs(t, err, envelope.ErrKeyUnavailable, name)
		require.ErrorIs(t, err, cause, name)
		require.NotErrorIs(t, err, envelope.ErrDecrypt, name)
		require.Equal(t, stored, again, "%s: it can be tried again", name)
	}
}

func TestFlakyServiceLosesNoValue(t *testing.T) {
	t.Parallel()
	c, stored := envelope.NewCodec(envelope.Params{}), sealedBy(t)
	for bad := range int64(5) {
		s := newService(func(call int64) error {
			if call == bad {
				return errors.New("500")
			}
			return nil
		})
		got, err := c.Open(bg, newRing(t, externalKey(t, s)), "/k", slices.Clone(stored), nil)
		if err != nil {
			require.ErrorIs(t, err, envelope.ErrKeyUnavailable, "call %d", bad)
			continue
		}
		require.Equal(t, "v", string(got))
	}
}

func TestWorkingServiceRefusesAChangedValue(t *testing.T) {
	t.Parallel()
	c, stored := envelope.NewCodec(envelope.Params{}), sealedBy(t)
	stored[len(stored)-1] ^= 1
	s := newService(up)
	_, err := c.Open(bg, newRing(t, externalKey(t, s)), "/k", slices.Clone(stored), nil)
	require.Equal(t, envelope.ErrDecrypt, err)

	saying := newService(func(int64) error { return fmt.Errorf("%w: invalid ciphertext", envelope.ErrDecrypt) })
	_, err = c.Open(bg, newRing(t, externalKey(t, saying)), "/k", stored, nil)
	require.Equal(t, envelope.ErrDecrypt, err)
	require.Equal(t, int64(1), saying.calls.Load(), "its word is enough")
}

// heeding is an AEAD that knows of contexts.
type heeding struct {
	*service
	hangs atomic.Bool
}

func (h *heeding) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	return h.bounded(ctx, func() ([]byte, error) { return h.Encrypt(plaintext, associatedData) })
}

func (h *heeding) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	return h.bounded(ctx, func() ([]byte, error) { return h.Decrypt(ciphertext, associatedData) })
}

func (h *heeding) bounded(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return f()
}

func TestHangingServiceIsLeftAtTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, stored := envelope.NewCodec(envelope.Params{}), sealedBy(t)
		release := make(chan struct{})
		deaf := newService(func(int64) error { <-release; return nil })
		heeds := &heeding{service: newService(up)}
		heeds.hangs.Store(true)
		for name, aead := range map[string]envelope.AEAD{"heeds its context": heeds, "heeds none": deaf} {
			k := externalKey(t, aead)
			for what, call := range map[string]func(context.Context) error{
				"seal": func(ctx context.Context) error {
					_, err := c.Seal(ctx, k, "/k", []byte("v"))
					return err
				},
				"open": func(ctx context.Context) error {
					_, err := c.Open(ctx, newRing(t, k), "/k", slices.Clone(stored), nil)
					return err
				},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				began := time.Now()
				err := call(ctx)
				require.Equal(t, 300*time.Millisecond, time.Since(began), name, what)
				require.ErrorIs(t, err, envelope.ErrKeyUnavailable, name, what)
				require.ErrorIs(t, err, context.DeadlineExceeded, name, what)
				cancel()
			}
		}
		close(release)
		synctest.Wait()
	})
}

func TestValueIsReusableWhileAServiceHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen, release := make(chan string, 1), make(chan struct{})
		k := externalKey(t, watching(func(plaintext []byte) {
			<-release
			seen <- string(plaintext)
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		value := []byte("value")
		_, err := envelope.NewCodec(envelope.Params{}).Seal(ctx, k, "/k", value)
		require.ErrorIs(t, err, envelope.ErrKeyUnavailable)
		clear(value)
		close(release)
		require.Equal(t, "value", <-seen)
	})
}

type watching func(plaintext []byte)

func (f watching) Encrypt(plaintext, _ []byte) ([]byte, error)  { f(plaintext); return plaintext, nil }
func (f watching) Decrypt(ciphertext, _ []byte) ([]byte, error) { return ciphertext, nil }

func TestHangingServiceKeepsABoundedNumberOfGoroutines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newService(func(int64) error { <-release; return nil })
		k, c := externalKey(t, s), envelope.NewCodec(envelope.Params{})
		for range 3 * envelope.MaxExternalCalls {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err := c.Seal(ctx, k, "/k", []byte("v"))
			require.ErrorIs(t, err, envelope.ErrKeyUnavailable)
			cancel()
		}
		require.Equal(t, int64(envelope.MaxExternalCalls), s.calls.Load())
		close(release)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Seal(ctx, k, "/k", []byte("v"))
		require.NoError(t, err, "it is used again when it answers")
	})
}

func TestPanicOfAnAEADReachesItsCaller(t *testing.T) {
	t.Parallel()
	k := externalKey(t, watching(func([]byte) { panic("broken") }))
	require.PanicsWithValue(t, "broken", func() {
		_, _ = envelope.NewCodec(envelope.Params{}).Seal(t.Context(), k, "/k", []byte("v"))
	})
}
