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

// BenchmarkEncryptionRatio compares a client with encryption to one without:
// puts of 1 KiB, gets of 1 KiB, and lists of 10,000 values of 1 KiB.
func BenchmarkEncryptionRatio(b *testing.B) {
	endpoints := serverProcess(b)
	ctx := context.Background()
	value := make([]byte, 1024)
	clients := [2]*etcd.Client{
		benchClient(b, etcd.DefaultConfig().WithEndpoints(endpoints...).WithNamespace("/plain")),
		benchClient(b, etcd.DefaultConfig().WithEndpoints(endpoints...).WithNamespace("/sealed").WithEncryption(testKey)),
	}
	for _, c := range clients {
		for from := 0; from < 10_000; from += 500 {
			kvs := map[string][]byte{}
			for i := range 500 {
				kvs[fmt.Sprintf("/list/%05d", from+i)] = value
			}
			require.NoError(b, c.BulkPut(ctx, kvs))
		}
	}
	both := func(call func(c *etcd.Client) error) [2]func() error {
		return [2]func() error{func() error { return call(clients[0]) }, func() error { return call(clients[1]) }}
	}
	b.Run("put", func(b *testing.B) {
		compareInTurns(b, 500, both(func(c *etcd.Client) error { return c.Put(ctx, "/put", value) }))
	})
	b.Run("get", func(b *testing.B) {
		compareInTurns(b, 500, both(func(c *etcd.Client) error {
			_, err := c.Get(ctx, "/list/00000")
			return err
		}))
	})
	b.Run("list", func(b *testing.B) {
		compareInTurns(b, 4, both(func(c *etcd.Client) error {
			kvs, err := c.GetPrefix(ctx, "/list/", 0)
			if len(kvs) != 10_000 {
				return fmt.Errorf("%d values", len(kvs))
			}
			return err
		}))
	})
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
