package main

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestTourOnItsOwnServerPrintsDocumentedText(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	status, stdout := p.wait(t)
	require.Zero(t, status, "%s", &p.stderr)
	require.Empty(t, p.stderr.String())
	requireDocumented(t, stdout)
}

func TestClusterTourPrintsDocumentedTextAndLeavesNothing(t *testing.T) {
	t.Parallel()
	server := etcdtest.New(t)
	client := connect(t, server)
	require.NoError(t, client.BulkPut(t.Context(), map[string][]byte{
		"/sample/users/left-over": nil, "/sample": nil, "/samples": nil, "/other": nil,
	}))

	p := start(t, []string{"ETCD_ENDPOINTS=" + server.Endpoint()})
	status, stdout := p.wait(t)
	require.Zero(t, status, "%s", &p.stderr)
	require.Empty(t, p.stderr.String())
	require.Equal(t, server.Endpoint(), requireDocumented(t, stdout))

	keys, err := client.List(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []string{"/other", "/sample", "/samples"}, keys)
	leases, err := client.Raw().Leases(t.Context())
	require.NoError(t, err)
	require.Empty(t, leases.Leases)
}

// connect returns a client of the test's own.
func connect(t *testing.T, server *etcdtest.Server) *etcd.Client {
	t.Helper()
	client, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(server.Endpoints()...))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// What may differ from run to run. The first group of each is the part that
// testdata/expected.txt has a name in place of.
var (
	addressLine = regexp.MustCompile(`(?m)^Connected to etcd at \[(127\.0\.0\.1:[0-9]+)\]$`)
	leaseLine   = regexp.MustCompile(`(?m)^Created lease with ID: ([0-9a-f]{16}) `)
	rawLine     = regexp.MustCompile(`(?m)^Raw encrypted data \(first 50 chars\): (".*")\.\.\.$`)
)

// requireDocumented compares the whole output of a tour with the documented one.
// It returns the address of the cluster.
func requireDocumented(t *testing.T, stdout string) (address string) {
	t.Helper()
	expected, err := os.ReadFile("testdata/expected.txt")
	require.NoError(t, err)

	stdout, address = cut(t, stdout, addressLine, "<address>")
	stdout, _ = cut(t, stdout, leaseLine, "<lease>")
	stdout, quoted := cut(t, stdout, rawLine, "<raw>")
	require.Equal(t, string(expected), stdout)

	raw, err := strconv.Unquote(quoted)
	require.NoError(t, err)
	require.Len(t, raw, 50)
	require.True(t, strings.HasPrefix(raw, "\xffecv\x01\x02"), "not an encrypted value: %s", quoted)
	return address
}

// cut replaces what the first group of pattern matches by name.
func cut(t *testing.T, text string, pattern *regexp.Regexp, name string) (rest, part string) {
	t.Helper()
	at := pattern.FindStringSubmatchIndex(text)
	require.NotNil(t, at, "nothing like %s in:\n%s", pattern, text)
	return text[:at[2]] + name + text[at[3]:], text[at[2]:at[3]]
}
