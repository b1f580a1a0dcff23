package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/barrier"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/discovery/grpcresolver"
	"github.com/blueprint-go/etcd/live"
	"github.com/blueprint-go/etcd/mirror"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

func TestPackagesRefuseNilAndZeroClients(t *testing.T) {
	t.Parallel()
	instance := discovery.Instance{Address: "x"}
	for kind, none := range map[string]*etcd.Client{"nil": nil, "zero": {}} {
		require.Nil(t, none.Raw(), kind)
		for name, call := range map[string]func(ctx context.Context) error{
			"mirror": func(ctx context.Context) error { return second(mirror.Open(ctx, none, "p/")) },
			"typed mirror": func(ctx context.Context) error {
				return second(mirror.OpenTyped(ctx, etcd.NewTyped[string](none, "p/")))
			},
			"live":           func(ctx context.Context) error { return second(live.Open[service](ctx, none, "p/")) },
			"document":       func(ctx context.Context) error { return second(live.OpenDocument[service](ctx, none, "p")) },
			"queue":          func(ctx context.Context) error { return second(jobqueue.Open[string](ctx, none, "q")) },
			"barrier":        func(context.Context) error { return second(barrier.New(none, "b")) },
			"double barrier": func(context.Context) error { return second(barrier.NewDouble(none, "b", 1)) },
			"register":       func(ctx context.Context) error { return second(discovery.Register(ctx, none, "s", instance)) },
			"register later": func(ctx context.Context) error {
				return second(discovery.Register(ctx, none, "s", instance, discovery.WithBackground()))
			},
			"instances": func(ctx context.Context) error { return second(discovery.Instances(ctx, none, "s")) },
			"watch":     func(ctx context.Context) error { return lastWatched(ctx, none, "s") },
			"builder":   func(context.Context) error { return grpcresolver.NewBuilder(none).Err() },
			"typed":     func(ctx context.Context) error { return second(etcd.NewTyped[string](none, "p/").Get(ctx, "n")) },
			"decode": func(context.Context) error {
				return second(etcd.NewTyped[string](none, "p/").Decode(etcd.KeyValue{Key: "p/n", Value: []byte(magic)}))
			},
		} {
			err := call(within(t, patience))
			require.ErrorIs(t, err, etcd.ErrInvalidArgument, "%s of a %s client", name, kind)
			var failed *etcd.Error
			require.ErrorAs(t, err, &failed, name)
			require.False(t, failed.Sent, name)
		}
	}
}
