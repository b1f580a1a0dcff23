package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
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
	srv := etcdtest.New(b)
	raw, err := clientv3.New(clientv3.Config{Endpoints: srv.Endpoints(), Logger: zap.NewNop()})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, raw.Close()) })
	client, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(srv.Endpoints()...))
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
				require.NoError(b, s.get(ctx, "/bench/put"))
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
