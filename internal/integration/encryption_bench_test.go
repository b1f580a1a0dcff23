package integration

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// benchClient connects to a server for one benchmark.
func benchClient(b *testing.B, cfg *etcd.Config) *etcd.Client {
	b.Helper()
	c, err := etcd.NewClient(cfg.WithTimeout(time.Minute))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, c.Close()) })
	return c
}

// BenchmarkReencrypt measures how many keys a second are moved from one key to
// another: by Reencrypt, and by reading and writing them one by one, as safely.
// -rotation.keys says how many they are.
func BenchmarkReencrypt(b *testing.B) {
	for _, fsync := range []bool{false, true} {
		b.Run(fmt.Sprintf("fsync=%v", fsync), func(b *testing.B) {
			var variables []string
			if fsync {
				variables = append(variables, withFsync)
			}
			endpoints := serverProcess(b, variables...)
			keys := []*etcd.EncryptionKey{keyNumber(b, 1), keyNumber(b, 2)}
			ring := ringOf(b, keys...)
			c := benchClient(b, etcd.DefaultConfig().WithEndpoints(endpoints...).WithKeyring(ring))
			ctx, n := context.Background(), *rotationKeys
			names := make([]string, n)
			for i := range names {
				names[i] = fmt.Sprintf("/keys/%06d", i)
			}
			for chunk := range slices.Chunk(names, 500) {
				kvs := map[string][]byte{}
				for _, name := range chunk {
					kvs[name] = make([]byte, 256)
				}
				require.NoError(b, c.BulkPut(ctx, kvs))
			}
			move := func(b *testing.B, all func() error) {
				for b.Loop() {
					b.StopTimer()
					keys[0], keys[1] = keys[1], keys[0]
					require.NoError(b, ring.Replace(keys[0], keys[1]))
					b.StartTimer()
					require.NoError(b, all())
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
			}
			b.Run("batches", func(b *testing.B) {
				move(b, func() error {
					report, err := c.Reencrypt(ctx, "/keys/")
					if err == nil && report.Rewritten != int64(n) {
						err = fmt.Errorf("%d rewritten", report.Rewritten)
					}
					return err
				})
			})
			b.Run("one by one", func(b *testing.B) {
				move(b, func() error {
					for _, name := range names {
						value, revision, err := c.GetWithRevision(ctx, name)
						if err == nil {
							err = done(c.CompareAndSwapRevision(ctx, name, revision, value, etcd.WithIgnoreLease()))
						}
						if err != nil {
							return err
						}
					}
					return nil
				})
			})
		})
	}
}
