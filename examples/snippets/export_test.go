package snippets

import (
	"context"
	"errors"
	"io"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func exportToFile(ctx context.Context, client *etcd.Client, name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	report, err := client.Export(ctx, f, "/app/")
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	log.Printf("%d keys at revision %d", report.Keys, report.Revision)
	return nil
}

func importFromFile(ctx context.Context, client *etcd.Client, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	report, err := client.Import(ctx, f)
	for tries := 0; etcd.IsRetryable(err) && tries < 3; tries++ {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		report, err = client.Import(ctx, f, etcd.WithResumeAt(report.Next))
	}
	return err
}

func copyToCluster(ctx context.Context, from, to *etcd.Client) error {
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := from.Export(ctx, out, "/app/", etcd.WithDecryptedValues())
		done <- out.CloseWithError(err)
	}()
	_, err := to.Import(ctx, in)
	return errors.Join(err, in.CloseWithError(err), <-done)
}

func TestExportedFileBringsBackWhatWasDeleted(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, client.Put(t.Context(), "/app/a", []byte("v")))
	require.NoError(t, exportToFile(t.Context(), client, name))
	_, err := client.Delete(t.Context(), "/app/a")
	require.NoError(t, err)
	require.NoError(t, importFromFile(t.Context(), client, name))
	value, err := client.Get(t.Context(), "/app/a")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))

	other := newClient(t)
	require.NoError(t, copyToCluster(t.Context(), client, other))
	value, err = other.Get(t.Context(), "/app/a")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))
	// What fails ends both sides.
	require.NoError(t, client.Close())
	require.ErrorIs(t, copyToCluster(t.Context(), client, other), etcd.ErrClosed)
	require.ErrorIs(t, copyToCluster(t.Context(), other, client), etcd.ErrClosed)
	require.ErrorIs(t, exportToFile(t.Context(), client, name+"2"), etcd.ErrClosed)
	require.NoFileExists(t, name+"2")
}

func TestExportGuideShowsAnImportableFile(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/export.md")
	require.NoError(t, err)
	lines := regexp.MustCompile(`(?m)^    (\{.*\}\n)`).FindAllStringSubmatch(string(guide), -1)
	var file strings.Builder
	for _, line := range lines {
		file.WriteString(line[1])
	}
	client := newClient(t)
	report, err := client.Import(t.Context(), strings.NewReader(file.String()))
	require.NoError(t, err)
	require.EqualValues(t, 3, report.Written)
	require.Contains(t, report.Leases, etcd.LeaseID(42))
	value, err := client.Get(t.Context(), "/app/a")
	require.NoError(t, err)
	require.Equal(t, "a \"b\"\n", string(value))
}
