//go:build long

package integration

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// Values of 10 MB, on a server that takes them, go one at a time; when even one takes
// longer than the deadline, the error says how to give it more.
func TestImportOfLargeValuesSaysWhatItNeeds(t *testing.T) {
	t.Parallel()
	const limit, size, n = 16 << 20, 10 << 20, 3
	srv, chunks := serverOfChunks(t, etcdtest.WithMaxRequestBytes(limit))
	c := client(t, config(srv).WithMaxRequestBytes(limit).WithTimeout(busyTimeout))
	ctx := within(t, 2*busyTimeout)
	for i := range n {
		require.NoError(t, c.Put(ctx, fmt.Sprint("p/", i), make([]byte, size)))
	}
	var file bytes.Buffer
	require.NoError(t, second(c.Export(ctx, &file, "p/", etcd.WithDecryptedValues())))
	require.NoError(t, second(c.DeletePrefix(ctx, "p/")))
	chunks.interfere(nil, nil)
	report, err := c.Import(ctx, bytes.NewReader(file.Bytes()))
	require.NoError(t, err)
	require.EqualValues(t, n, report.Written)
	applied, most := chunks.seen()
	require.Len(t, applied, n)
	require.Equal(t, 1, most)

	release := make(chan struct{})
	defer close(release)
	chunks.interfere(func(ctx context.Context, _ []string) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return ctx.Err()
	}, nil)
	short := client(t, config(srv).WithMaxRequestBytes(limit).WithTimeout(500*time.Millisecond))
	_, err = short.Import(t.Context(), bytes.NewReader(file.Bytes()))
	require.ErrorIs(t, err, etcd.ErrTimeout)
	require.ErrorContains(t, err, "a chunk of 1 keys and 1048")
	require.ErrorContains(t, err, "RequestTimeout")
}
