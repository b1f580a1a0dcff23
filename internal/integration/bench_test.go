package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd"
)

// side is one of the two clients that a benchmark compares.
type side struct {
	name string
	put  func(ctx context.Context, key string, value []byte) error
	get  func(ctx context.Context, key string) error
	list func(ctx context.Context, prefix string) error
}

// sides returns both clients of one server, with n keys of 100 B to list.
func sides(b *testing.B, n int) []side {
	endpoints := serverProcess(b)
	raw, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, raw.Close()) })
	client, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoints...))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, client.Close()) })
	for i := range n {
		require.NoError(b, client.Put(context.Background(), fmt.Sprintf("/list/%04d", i), make([]byte, 100)))
	}
	return []side{
		{
			"clientv3",
			func(ctx context.Context, key string, value []byte) error {
				_, err := raw.Put(ctx, key, string(value))
				return err
			},
			func(ctx context.Context, key string) error {
				_, err := raw.Get(ctx, key)
				return err
			},
			func(ctx context.Context, prefix string) error {
				_, err := raw.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
				return err
			},
		},
		{
			"etcd",
			func(ctx context.Context, key string, value []byte) error { return client.Put(ctx, key, value) },
			func(ctx context.Context, key string) error {
				_, err := client.Get(ctx, key)
				return err
			},
			func(ctx context.Context, prefix string) error {
				_, err := client.List(ctx, prefix)
				return err
			},
		},
	}
}

// BenchmarkPaired measures Put, Get and List of one caller through this package
// and through clientv3.
func BenchmarkPaired(b *testing.B) {
	sides := sides(b, 100)
	ctx := context.Background()
	value := make([]byte, 100)
	for _, s := range sides {
		b.Run("put/"+s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, s.put(ctx, "/bench/put", value))
			}
		})
		b.Run("get/"+s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, s.get(ctx, "/list/0000"))
			}
		})
		b.Run("list/"+s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, s.list(ctx, "/list/"))
			}
		})
	}
}

// BenchmarkRatio compares the latency of one caller through this package to that
// through clientv3: below 1 this package is faster.
func BenchmarkRatio(b *testing.B) {
	sides := sides(b, 100)
	ctx := context.Background()
	value := make([]byte, 100)
	for _, op := range []struct {
		name string
		call func(s side) error
	}{
		{"put", func(s side) error { return s.put(ctx, "/bench/put", value) }},
		{"get", func(s side) error { return s.get(ctx, "/list/0000") }},
		{"list", func(s side) error { return s.list(ctx, "/list/") }},
	} {
		b.Run(op.name, func(b *testing.B) {
			compareInTurns(b, 200, [2]func() error{
				func() error { return op.call(sides[0]) },
				func() error { return op.call(sides[1]) },
			})
		})
	}
}
