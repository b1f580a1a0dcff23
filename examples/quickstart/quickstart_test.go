package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestQuickStartRuns(t *testing.T) {
	server := etcdtest.New(t)
	t.Setenv("ETCD_ENDPOINTS", strings.Join(server.Endpoints(), ","))
	require.NoError(t, run(t.Context()))

	client, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(server.Endpoints()...))
	require.NoError(t, err)
	defer client.Close()
	schema, err := client.Get(t.Context(), "/app/schema")
	require.NoError(t, err)
	require.Equal(t, "2", string(schema))
}

func TestReadmeShowsTheQuickStart(t *testing.T) {
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, program, _ := strings.Cut(string(source), "package main\n")
	require.Contains(t, string(readme), "```go\npackage main\n"+program+"```\n")
}
