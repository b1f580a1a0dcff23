package main

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/etcdtest"
)

func TestEndpointsFlagWinsOverTheEnvironment(t *testing.T) {
	t.Parallel()
	server := etcdtest.New(t)
	for name, environment := range map[string]string{"empty": "", "dead": deadEndpoint(t), "malformed": "::"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A second endpoint that is dead keeps nobody from the first.
			list := server.Endpoint() + "," + deadEndpoint(t)
			p := start(t, []string{"ETCD_ENDPOINTS=" + environment}, "-endpoints", list)
			p.until(t, "Connected to etcd at ["+server.Endpoint()+" ")
			require.Equal(t, 130, p.interrupt(t, os.Interrupt))
		})
	}
}

func TestHelpExplainsEveryFlagVariableAndExitStatus(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--help", "-help", "-h"} {
		p := start(t, nil, flag)
		status, stdout := p.wait(t)
		require.Zero(t, status)
		require.Empty(t, p.stderr.String())
		for _, word := range []string{"-endpoints", "-help", "ETCD_ENDPOINTS", "ETCDCTL_", "/sample/", "0 ", "1 ", "2 ", "130 "} {
			require.Contains(t, stdout, word)
		}
	}
}

func TestBadArgumentsAreRefusedWithStatusTwo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env, args []string
		says      string
	}{
		"unknown flag":       {args: []string{"-bogus"}, says: "-bogus"},
		"flag without value": {args: []string{"-endpoints"}, says: "-endpoints"},
		"argument":           {args: []string{"localhost:2379"}, says: `"localhost:2379"`},
		"no endpoint":        {args: []string{"-endpoints", ""}, says: "ETCD_ENDPOINTS"},
		"no port":            {args: []string{"-endpoints", "127.0.0.1"}, says: `"127.0.0.1"`},
		"empty variable":     {env: []string{"ETCD_ENDPOINTS="}, says: "ETCD_ENDPOINTS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, c.env, c.args...)
			status, _ := p.wait(t)
			require.Equal(t, 2, status)
			require.Contains(t, p.stderr.String(), "sample: ")
			require.Contains(t, p.stderr.String(), c.says)
		})
	}
}

func TestDeadEndpointIsNamedWithCauseInTime(t *testing.T) {
	t.Parallel()
	endpoint := deadEndpoint(t)
	begin := time.Now()
	p := start(t, []string{"ETCDCTL_DIAL_TIMEOUT=1s"}, "-endpoints", endpoint)
	status, stdout := p.wait(t)
	require.Less(t, time.Since(begin), 4*time.Second)
	require.Equal(t, 1, status)
	require.NotContains(t, stdout, "Connected")
	require.Contains(t, p.stderr.String(), endpoint)
	require.Contains(t, p.stderr.String(), "connection refused")
}

// deadEndpoint returns an address at which nothing listens: it belongs to a
// connection of the test.
func deadEndpoint(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}
