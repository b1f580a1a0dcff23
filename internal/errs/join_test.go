package errs_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/errs"
)

func TestBothOfTwoErrorsMatch(t *testing.T) {
	t.Parallel()
	secret := errors.New("the value")
	for name, tc := range map[string]struct {
		err  error
		text string
	}{
		"kind":               {errs.WithKind(errs.ErrServer, io.EOF), errs.ErrServer.Error() + ": EOF"},
		"kind that is named": {errs.WithKind(io.EOF, errs.WithKind(io.EOF, errs.ErrServer)), "EOF: " + errs.ErrServer.Error()},
		"detail":             {errs.WithDetail(errs.ErrServer, io.EOF), errs.ErrServer.Error() + ": EOF"},
		"joined":             {errs.Join([]error{errs.ErrServer, io.EOF}), errs.ErrServer.Error() + "; EOF"},
	} {
		require.ErrorIs(t, tc.err, errs.ErrServer, name)
		require.ErrorIs(t, tc.err, io.EOF, name)
		require.EqualError(t, tc.err, tc.text, name)
	}
	unspoken := errs.WithUnspoken(errs.ErrServer, secret)
	require.ErrorIs(t, unspoken, secret)
	require.EqualError(t, unspoken, errs.ErrServer.Error())

	require.Equal(t, errs.ErrServer, errs.WithKind(errs.ErrServer, nil))
	require.Equal(t, errs.ErrServer, errs.WithDetail(errs.ErrServer, nil))
	require.NoError(t, errs.Join(nil))
}

func TestErrorOfAContextHasItsCause(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.EOF)
	err := errs.OfContext(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, io.EOF)
	require.NotErrorIs(t, err, errs.ErrTimeout)

	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		// A server and gRPC go by their own clocks: the timer may be late.
		require.ErrorIs(t, errs.OfContext(ctx), errs.ErrTimeout)
		<-ctx.Done()
		require.ErrorIs(t, errs.OfContext(ctx), errs.ErrTimeout)
		require.ErrorIs(t, errs.OfContext(ctx), context.DeadlineExceeded)
	})
}
