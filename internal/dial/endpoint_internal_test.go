package dial

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/errs"
)

func TestMalformedEndpointsAreNamedWithTheReason(t *testing.T) {
	t.Parallel()
	for raw, reason := range map[string]string{
		"":                      "is empty",
		"  ":                    "is empty",
		" a:1":                  "has blanks around it",
		"a:1\n":                 "has blanks around it",
		"::::":                  "too many colons",
		"::1:2379":              "too many colons",
		"localhost":             "missing port",
		"[::1]":                 "missing port",
		"localhost:":            "missing port",
		"https://localhost":     "missing port",
		"localhost:99999":       "port is not a number from 1 to 65535",
		"localhost:0":           "port is not a number from 1 to 65535",
		"localhost:etcd":        "port is not a number from 1 to 65535",
		"localhost:-1":          "port is not a number from 1 to 65535",
		"http://localhost:x":    "invalid port",
		":2379":                 "missing host",
		"http://":               "missing port",
		"http://:2379":          "missing host",
		"ftp://x":               `scheme "ftp"`,
		"tcp://x:1":             `scheme "tcp"`,
		"://x:1":                "missing protocol scheme",
		"http://a:1/v3":         "has something after the port",
		"http://a:1?x=y":        "has something after the port",
		"http://a:1#x":          "has something after the port",
		"a:1,b:1":               "too many colons",
		"a/b:1":                 "host name holds a character",
		"a b:1":                 "host name holds a character",
		"[fe80::1%eth0]:2379":   "an IPv6 zone needs the form",
		"[localhost]:1":         "not an IPv6 address",
		"unix:":                 "missing socket path",
		"unix://":               "missing socket path",
		"unixs://":              "missing socket path",
		"unix-abstract:x":       "port is not a number",
		"dns:///localhost:2379": `scheme "dns"`,
		"http://u:p@a:1":        "holds a user name",
		"u@a:1":                 "holds a user name",
	} {
		_, err := ParseEndpoint(raw)
		if assert.Error(t, err, raw) {
			assert.Contains(t, err.Error(), reason, raw)
			assert.Contains(t, err.Error(), "endpoint ", raw)
		}
	}
}

// clientv3 has its own idea of an endpoint. What it makes of each form has to be
// what was validated, or a failure could not be laid at an endpoint's door.
func TestEveryEndpointFormReachesTheDialerAsParsed(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]target{
		"localhost:2379":             {"tcp", "localhost:2379"},
		"127.0.0.1:1":                {"tcp", "127.0.0.1:1"},
		"[::1]:2379":                 {"tcp", "[::1]:2379"},
		"etcd_1.example:2379":        {"tcp", "etcd_1.example:2379"},
		"http://localhost:2379":      {"tcp", "localhost:2379"},
		"http://localhost:2379/":     {"tcp", "localhost:2379"},
		"http://[fe80::1%25eth0]:23": {"tcp", "[fe80::1%eth0]:23"},
		"https://[::1]:2379":         {"tcp", "[::1]:2379"},
		"HTTPS://localhost:2379":     {"tcp", "localhost:2379"},
		"unix:///run/etcd.sock":      {"unix", "/run/etcd.sock"},
		"unix:/run/etcd.sock":        {"unix", "/run/etcd.sock"},
		"unix:etcd.sock":             {"unix", "etcd.sock"},
		"unix://localhost:m0":        {"unix", "localhost:m0"},
		"unix:2379":                  {"unix", "2379"},
		"unixs:///run/etcd.sock":     {"unix", "/run/etcd.sock"},
		"unixs://localhost:m0":       {"unix", "localhost:m0"},
		"unixs:a@b":                  {"unix", "a@b"},
	} {
		t.Run(raw, func(t *testing.T) {
			t.Parallel()
			e, err := ParseEndpoint(raw)
			require.NoError(t, err)
			assert.Equal(t, want, target{e.network, e.address})
			assert.Equal(t, strings.HasPrefix(strings.ToLower(raw), "https:") || strings.HasPrefix(raw, "unixs:"), e.IsTLS(false))

			dialed := make(chan target, 100)
			p := to(raw)
			if e.IsTLS(false) {
				p = with(p, TLSParams{})
			}
			err = connectOnce(t, by(p, func(_ context.Context, network, address string) (net.Conn, error) {
				dialed <- target{network, address}
				return nil, syscall.ECONNREFUSED
			}))
			assert.Equal(t, want, <-dialed)
			assert.ErrorIs(t, err, errs.ErrConnectionRefused)
			assert.ErrorContains(t, err, raw+": ", "the endpoint is named as configured")
		})
	}
}
