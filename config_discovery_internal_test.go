package etcd

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/dial/dialtest"
)

const (
	srvTLS   = "_etcd-client-ssl._tcp.example.test."
	srvPlain = "_etcd-client._tcp.example.test."
)

func record(target string, port uint16) net.SRV {
	return net.SRV{Target: target, Port: port, Priority: 1, Weight: 1}
}

// discoverIn returns what cfg means in a world with zone z.
func discoverIn(t *testing.T, z dialtest.Zone, cfg *Config) (*Config, error) {
	t.Helper()
	c, err := cfg.WithResolver(z.Resolver(t)).resolved()
	require.NoError(t, err)
	return c, c.discovered()
}

func TestEndpointsComeFromSRVRecords(t *testing.T) {
	t.Parallel()
	both := dialtest.Zone{SRV: map[string][]net.SRV{
		srvTLS:   {record("m1.example.test.", 2379), record("m2.example.test.", 2380)},
		srvPlain: {record("m3.example.test.", 2379)},
	}}
	plain := dialtest.Zone{SRV: map[string][]net.SRV{srvPlain: both.SRV[srvPlain]}}
	named := dialtest.Zone{SRV: map[string][]net.SRV{"_etcd-client-ssl-blue._tcp.example.test.": both.SRV[srvTLS], srvPlain: both.SRV[srvPlain]}}
	for name, tc := range map[string]struct {
		zone dialtest.Zone
		name string
		want []string
	}{
		"TLS before plaintext": {both, "", []string{"https://m1.example.test:2379", "https://m2.example.test:2380"}},
		"plaintext":            {plain, "", []string{"http://m3.example.test:2379"}},
		"a service of a name":  {named, "blue", []string{"https://m1.example.test:2379", "https://m2.example.test:2380"}},
	} {
		c, err := discoverIn(t, tc.zone, DefaultConfig().WithDiscoverySRV("example.test", tc.name))
		require.NoError(t, err, name)
		assert.ElementsMatch(t, tc.want, c.Endpoints, name)
	}
}

func TestDiscoveryThatFindsNothingIsAnError(t *testing.T) {
	t.Parallel()
	records := func(name string, all ...net.SRV) dialtest.Zone {
		return dialtest.Zone{SRV: map[string][]net.SRV{name: all}}
	}
	failing := records(srvPlain, record("m.example.test.", 2379))
	failing.Failing = srvTLS
	for name, tc := range map[string]struct {
		zone dialtest.Zone
		edit func(*Config)
		kind error
		text string
	}{
		"no record":                         {dialtest.Zone{}, nil, ErrUnavailable, `domain "example.test" has no SRV record`},
		"a service that is not offered":     {records(srvTLS, record(".", 0)), nil, ErrUnavailable, "has no SRV record"},
		"a look-up for TLS that fails":      {failing, nil, ErrUnavailable, "look up the endpoints"},
		"plaintext where TLS is required":   {records(srvPlain, record("m.example.test.", 1)), func(c *Config) { c.WithRequireTLS() }, ErrInvalidConfig, "would be plaintext"},
		"plaintext where TLS is configured": {records(srvPlain, record("m.example.test.", 1)), func(c *Config) { c.WithServerName("m") }, ErrInvalidConfig, "would ignore the TLS settings"},
		"a port that is none":               {records(srvTLS, record("m.example.test.", 0)), nil, ErrInvalidConfig, "port is not a number"},
	} {
		cfg := DefaultConfig().WithDiscoverySRV("example.test", "")
		if tc.edit != nil {
			tc.edit(cfg)
		}
		_, err := NewClient(cfg.WithResolver(tc.zone.Resolver(t)).WithLazyConnect().WithDialTimeout(20 * time.Second))
		require.ErrorIs(t, err, tc.kind, name)
		assert.ErrorContains(t, err, tc.text, name)
	}
}

func TestDiscoveryDoesNotGoWithEndpoints(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().WithDiscoverySRV("example.test", "").Validate())
	require.NoError(t, (&Config{DiscoverySRV: "example.test"}).Validate())
	require.NoError(t, DefaultConfig().WithDiscoverySRV("example.test", "").WithRequireTLS().Validate(), "the records decide")
	for text, cfg := range map[string]*Config{
		"DiscoverySRV is set together with Endpoints":  DefaultConfig().WithDiscoverySRV("example.test", "").WithEndpoints("a:1"),
		"DiscoverySRVName is set without DiscoverySRV": {DiscoverySRVName: "blue"},
		"DiscoverySRV: is no name of DNS":              {DiscoverySRV: "a b", DiscoverySRVName: ""},
	} {
		err := cfg.Validate()
		require.ErrorIs(t, err, ErrInvalidConfig)
		assert.ErrorContains(t, err, text)
	}
}

// A client of SRV records connects to a real port by a name of the same zone.
func TestClientOfSRVRecordsConnects(t *testing.T) {
	t.Parallel()
	host, port, err := net.SplitHostPort(dialtest.ServeGRPC(t, dialtest.Listen(t), nil))
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	z := dialtest.Zone{
		SRV:  map[string][]net.SRV{srvPlain: {record("m.example.test.", uint16(n))}},
		Addr: map[string][]netip.Addr{"m.example.test.": {netip.MustParseAddr(host)}},
	}
	c, err := NewClient(DefaultConfig().WithDiscoverySRV("example.test", "").WithResolver(z.Resolver(t)).
		WithTimeout(30 * time.Second).WithLazyConnect())
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	_, err = c.Exists(t.Context(), "key")
	require.ErrorContains(t, err, "unknown service etcdserverpb.KV")
	assert.NoError(t, c.rpc.DialError())
}

func TestDiscoveryVariablesMeanTheSameAsForEtcdctl(t *testing.T) {
	r := dialtest.Zone{SRV: map[string][]net.SRV{
		"_etcd-client-blue._tcp.example.test.": {record("m1.example.test.", 2379)},
		srvTLS:                                 {record("m2.example.test.", 2379)},
	}}.Resolver(t)
	setenv(t, map[string]string{"ETCDCTL_DISCOVERY_SRV": "example.test", "ETCDCTL_DISCOVERY_SRV_NAME": "blue", "ETCDCTL_ENDPOINTS": "a:1"})
	c, err := configFromEnv(r)
	require.NoError(t, err)
	assert.Equal(t, DefaultConfig().WithEndpoints("http://m1.example.test:2379"), c)

	setenv(t, map[string]string{"ETCDCTL_DISCOVERY_SRV": "example.test", "ETCDCTL_INSECURE_DISCOVERY": "false"})
	c, err = configFromEnv(r)
	require.NoError(t, err)
	assert.Equal(t, DefaultConfig().WithEndpoints("https://m2.example.test:2379").WithRequireTLS().WithServerName("example.test"), c)

	for variables, text := range map[[2]string]string{
		{"ETCDCTL_DISCOVERY_SRV", "nowhere.test"}: `ETCDCTL_DISCOVERY_SRV: domain "nowhere.test" has no SRV record`,
		{"ETCD_ENDPOINTS", "a:1"}:                 "ETCDCTL_DISCOVERY_SRV: is set together with ETCD_ENDPOINTS",
	} {
		setenv(t, map[string]string{"ETCDCTL_DISCOVERY_SRV": "example.test", variables[0]: variables[1]})
		_, err = configFromEnv(r)
		require.ErrorIs(t, err, ErrInvalidConfig)
		require.ErrorContains(t, err, text)
	}
}

func TestNoVariableOfEtcdctlIsPassedOver(t *testing.T) {
	setenv(t, map[string]string{"ETCDCTL_AUTH_JWT_TOKEN": "a.b.c", "ETCDCTL_MAX_REQUEST_BYTES": "2000000"})
	c, err := ConfigFromEnv()
	require.NoError(t, err)
	assert.Equal(t, DefaultConfig().WithToken("a.b.c").WithMaxRequestBytes(2000000).revealed(), c)

	refused := map[string]string{
		"ETCDCTL_MAX_RECV_BYTES": "1000", "ETCDCTL_API": "2", "ETCDCTL_PEERS": "a:1", "ETCDCTL_ENDPOINT": "a:1",
		"ETCDCTL_CERT_FILE": "c", "ETCDCTL_KEY_FILE": "k", "ETCDCTL_CA_FILE": "ca", "ETCDCTL_USERNAME": "u:hunter2",
		"ETCDCTL_TIMEOUT": "1s", "ETCDCTL_TOTAL_TIMEOUT": "1s", "ETCDCTL_INSECURE_DISCOVERY": "perhaps",
	}
	setenv(t, refused)
	t.Setenv("ETCDCTL_MAX_REQUEST_BYTES", "2MB")
	_, err = ConfigFromEnv()
	require.ErrorIs(t, err, ErrInvalidConfig)
	for name := range refused {
		assert.ErrorContains(t, err, name+":")
	}
	assert.ErrorContains(t, err, "ETCDCTL_MAX_REQUEST_BYTES: is not a number of bytes")
	assert.NotContains(t, err.Error(), "hunter2")

	// What is only about what etcdctl prints, and what says the default.
	setenv(t, map[string]string{
		"ETCDCTL_API": "3", "ETCDCTL_WRITE_OUT": "json", "ETCDCTL_HEX": "true", "ETCDCTL_DEBUG": "true",
		"ETCDCTL_MAX_RECV_BYTES": "0", "ETCDCTL_MAX_REQUEST_BYTES": "0", "ETCDCTL_WATCH_KEY": "k", "ETCDCTL_WATCH_RANGE_END": "l",
	})
	c, err = ConfigFromEnv()
	require.NoError(t, err)
	assert.Equal(t, DefaultConfig(), c)
}
