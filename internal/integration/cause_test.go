package integration

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// talkative is an encoding whose errors quote the value.
type talkative struct{}

type quotingError struct{ value string }

func (e *quotingError) Error() string { return "can't encode " + e.value }

func (talkative) Marshal(value string) ([]byte, error)  { return nil, &quotingError{value} }
func (talkative) Unmarshal(data []byte) (string, error) { return "", &quotingError{string(data)} }

func TestEncodingCauseIsInTheChainOnly(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		quoting := etcd.NewTypedWith(c, p, talkative{})
		require.NoError(t, c.Put(ctx, p+"n", []byte("the-secret")))
		watched := func() error {
			for _, err := range quoting.Watch(ctx, etcd.WithRevision(revisionOf(t, c))) {
				return err
			}
			return nil
		}
		for name, err := range map[string]error{
			"Put":    quoting.Put(ctx, "n", "the-secret"),
			"Get":    second(quoting.Get(ctx, "n")),
			"List":   second(quoting.List(ctx)),
			"Watch":  watched(),
			"Update": quoting.Update(ctx, "n", func(string, bool) (string, bool, error) { return "the-secret", true, nil }),
		} {
			require.ErrorIs(t, err, etcd.ErrEncoding, name)
			require.NotContains(t, err.Error(), "the-secret", name)
			var cause *quotingError
			require.ErrorAs(t, err, &cause, name)
			require.Equal(t, "the-secret", cause.value, name)
		}
		var syntax *json.SyntaxError
		_, err := etcd.NewTyped[user](c, p).Get(ctx, "n")
		require.ErrorAs(t, err, &syntax)
	})
}

func TestValueErrorsNameNoInternalPackage(t *testing.T) {
	t.Parallel()
	srv := server(t)
	plain, encrypted := client(t, config(srv)), client(t, config(srv).WithEncryption(testKey))
	require.NoError(t, plain.Put(t.Context(), "k", []byte("v")))
	_, err := encrypted.Get(t.Context(), "k")
	require.ErrorIs(t, err, etcd.ErrNotEncrypted)
	for _, err := range []error{
		err, etcd.ErrInvalidKey, etcd.ErrNotEncrypted, etcd.ErrUnsupportedFormat, etcd.ErrCorrupt,
		etcd.ErrKeyUnavailable, etcd.ErrUnknownKey, etcd.ErrDecrypt, etcd.ErrValueTooLarge,
	} {
		require.NotContains(t, err.Error(), "envelope")
	}
}

func TestContextOfARunEndsWithItsFunction(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithTimeout(busyTimeout))
	key := prefix(t)
	require.NoError(t, c.Put(t.Context(), key, nil))
	var contexts []context.Context
	require.NoError(t, c.Transact(t.Context(), func(tx *etcd.Tx) error {
		for _, earlier := range contexts {
			require.ErrorIs(t, earlier.Err(), context.Canceled)
		}
		contexts = append(contexts, tx.Context())
		require.NoError(t, tx.Context().Err())
		_, err := tx.Get(key)
		if tx.Attempt() <= 3 {
			require.NoError(t, c.Put(t.Context(), key, []byte{byte(tx.Attempt())}))
		}
		tx.Put(key, []byte("mine"))
		return err
	}))
	require.Len(t, contexts, 4)
	require.Error(t, contexts[3].Err())
}

func TestDeadlineAfterConflictsIsAConflict(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	key := prefix(t)
	require.NoError(t, c.Put(t.Context(), key, nil))
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	runs := 0
	err := c.Update(ctx, key, func([]byte) ([]byte, error) {
		if runs++; runs == 6 {
			cancel() // as a deadline that passes while f runs
		}
		return []byte("mine"), c.Put(t.Context(), key, []byte{byte(runs)})
	})
	require.ErrorIs(t, err, etcd.ErrConflict)
	require.ErrorIs(t, err, context.Canceled)

	err = c.Transact(t.Context(), func(tx *etcd.Tx) error {
		_, err := tx.Get(key)
		tx.Put(key, nil)
		return errors.Join(err, c.Put(t.Context(), key, []byte{byte(tx.Attempt())}))
	}, etcd.WithMaxAttempts(2))
	require.ErrorIs(t, err, etcd.ErrConflict)
	require.ErrorContains(t, err, "WithLock")
}
