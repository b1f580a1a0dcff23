package snippets

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func createClient(config *etcd.Config, use func(*etcd.Client) error) error {
	client, err := etcd.NewClient(config)
	if err != nil {
		return fmt.Errorf("failed to create etcd client: %w", err)
	}
	defer client.Close()
	return use(client)
}

func TestClientIsUsableUntilItsFunctionReturns(t *testing.T) {
	t.Parallel()
	config := etcd.DefaultConfig().WithEndpoints(etcdtest.New(t).Endpoints()...)
	var client *etcd.Client
	put := func() error { return client.Put(t.Context(), "/key", nil) }
	require.NoError(t, createClient(config, func(c *etcd.Client) error {
		client = c
		return put()
	}))
	require.ErrorIs(t, put(), etcd.ErrClosed)
}

func TestClientThatFindsNoServerSaysWhy(t *testing.T) {
	t.Parallel()
	server := etcdtest.New(t)
	server.Stop()
	config := etcd.DefaultConfig().WithEndpoints(server.Endpoints()...).WithDialTimeout(time.Second)
	err := createClient(config, func(*etcd.Client) error {
		t.Error("there is no client to use")
		return nil
	})
	require.ErrorIs(t, err, etcd.ErrConnectionRefused)
	require.ErrorContains(t, err, "failed to create etcd client: ")
	require.ErrorContains(t, err, server.Endpoint())
}
