package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// noKeys is the file of an export of nothing.
var noKeys = func() string {
	const head = `{"format":"etcd-export","version":1,"form":"decrypted","prefix":"k","revision":1}` + "\n"
	return fmt.Sprintf("%s{\"count\":0,\"sha256\":\"%x\"}\n", head, sha256.Sum256([]byte(head)))
}()

// importUnder stores a secret under a key by way of an export of it from another.
func importUnder(ctx context.Context, c *etcd.Client, from, to string, opts ...etcd.ImportOption) error {
	if err := c.Put(ctx, from, []byte(secret)); err != nil {
		return err
	}
	var file bytes.Buffer
	if _, err := c.Export(ctx, &file, from, etcd.WithDecryptedValues()); err != nil {
		return err
	}
	report, err := c.Import(ctx, &file, append(opts, etcd.WithNewPrefix(to))...)
	return done(report.Written == 1, err)
}

// keyedExport returns the values of a decrypted export. Those that can't be decoded
// are left out; the error joins theirs.
func keyedExport(ctx context.Context, c *etcd.Client, p string) (map[string]string, error) {
	var file bytes.Buffer
	_, bad := c.Export(ctx, &file, p, etcd.WithDecryptedValues())
	if bad != nil {
		file.Reset()
		if _, err := c.Export(ctx, &file, p, etcd.WithDecryptedValues(), etcd.WithUndecodableAsStored()); err != nil {
			return nil, err
		}
	}
	out := map[string]string{}
	for line := range strings.Lines(file.String()) {
		var entry struct {
			Key, Value     *string
			Key64, Value64 []byte
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			return nil, err
		}
		key := string(entry.Key64)
		if entry.Key != nil {
			key = *entry.Key
		}
		switch {
		case key == "": // header or trailer
		case entry.Value != nil:
			out[key] = *entry.Value
		case entry.Value64 != nil:
			out[key] = string(entry.Value64)
		}
	}
	return out, bad
}

// requireOp holds that an error says which call it is of.
func requireOp(t *testing.T, err error, op, key string) {
	t.Helper()
	e, ok := errors.AsType[*etcd.Error](err)
	require.True(t, ok)
	require.Equal(t, op, e.Op)
	require.Equal(t, key, e.Key)
}
