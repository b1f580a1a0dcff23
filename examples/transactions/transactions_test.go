package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestLastArticleIsSoldOnce(t *testing.T) {
	server := etcdtest.New(t)
	t.Setenv("ETCD_ENDPOINTS", strings.Join(server.Endpoints(), ","))
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, "alice: ordered, with discount: true\nbob: no order, 0 in stock\n", out.String())

	client, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(server.Endpoints()...))
	require.NoError(t, err)
	defer client.Close()
	keys, err := client.List(t.Context(), "/shop/orders/")
	require.NoError(t, err)
	require.Equal(t, []string{"/shop/orders/alice/article", "/shop/orders/alice/discount"}, keys)
}
