package etcd

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/dial"
)

func TestDialerIsToldWhatTheConfigSays(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	logger, resolver := slog.New(slog.DiscardHandler), new(net.Resolver)
	one, err := dial.ParseEndpoint("https://etcd.example:1")
	require.NoError(t, err)
	two, err := dial.ParseEndpoint("etcd.example:2")
	require.NoError(t, err)
	defaults, err := dial.ParseEndpoint(DefaultEndpoint)
	require.NoError(t, err)
	settings := &tls.Config{RootCAs: nil, ServerName: "inner"}
	for name, tc := range map[string]struct {
		config *Config
		want   dial.Params
	}{
		"default": {DefaultConfig(), dial.Params{
			Endpoints: []dial.Endpoint{defaults}, Resolver: net.DefaultResolver, Timeout: 5 * time.Second,
		}},
		"files": {
			new(Config).WithEndpoints("https://etcd.example:1", "etcd.example:2").WithTLS(f.cert, f.key, f.ca, true).
				WithServerName("name").WithLogger(logger).WithResolver(resolver).WithDialTimeout(time.Minute),
			dial.Params{
				Endpoints: []dial.Endpoint{one, two}, Resolver: resolver, Timeout: time.Minute,
				TLS: &dial.TLSParams{
					CertFile: f.cert, KeyFile: f.key, CAFile: f.ca, ServerName: "name", InsecureSkipVerify: true, Logger: logger,
				},
			},
		},
		"scheme alone": {new(Config).WithEndpoints("https://etcd.example:1").WithLogger(logger), dial.Params{
			Endpoints: []dial.Endpoint{one}, Resolver: net.DefaultResolver, Timeout: 5 * time.Second,
			TLS: &dial.TLSParams{Logger: logger},
		}},
		"settings": {new(Config).WithEndpoints("etcd.example:2").WithTLSConfig(settings).WithLogger(logger), dial.Params{
			Endpoints: []dial.Endpoint{two}, Resolver: net.DefaultResolver, Timeout: 5 * time.Second,
			TLS: &dial.TLSParams{Config: settings, Logger: logger},
		}},
		"no settings": {new(Config).WithEndpoints("etcd.example:2").WithTLSConfig(nil).WithLogger(logger), dial.Params{
			Endpoints: []dial.Endpoint{two}, Resolver: net.DefaultResolver, Timeout: 5 * time.Second,
			TLS: &dial.TLSParams{Logger: logger},
		}},
	} {
		r, err := tc.config.resolved()
		require.NoError(t, err, name)
		assert.Equal(t, tc.want, r.dialing(), name)
	}
}

func TestDialerOpensByTheFunctionOfTheConfig(t *testing.T) {
	t.Parallel()
	open := func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
	r, err := new(Config).WithDialer(open).resolved()
	require.NoError(t, err)
	_, err = r.dialing().Open(t.Context(), "", "")
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestDialerTellsOfExposureWhereThereAreCredentials(t *testing.T) {
	t.Parallel()
	for _, c := range []*Config{new(Config).WithAuth("u", "p"), new(Config).WithToken("t")} {
		r, err := c.resolved()
		require.NoError(t, err)
		assert.NotNil(t, r.dialing().Exposed)
	}
	r, err := new(Config).resolved()
	require.NoError(t, err)
	assert.Nil(t, r.dialing().Exposed)
}
