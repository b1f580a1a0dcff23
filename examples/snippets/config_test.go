package snippets

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func basicConfig() *etcd.Config {
	// Basic configuration
	config := etcd.DefaultConfig().
		WithEndpoints("localhost:2379").
		WithTimeout(5 * time.Second)
	return config
}

func authConfig() *etcd.Config {
	// With authentication
	config := etcd.DefaultConfig().
		WithEndpoints("localhost:2379").
		WithAuth("username", "password")
	return config
}

func tlsConfig() *etcd.Config {
	// With TLS
	config := etcd.DefaultConfig().
		WithEndpoints("localhost:2379").
		WithTLS("/path/to/cert.pem", "/path/to/key.pem", "/path/to/ca.pem", false)
	return config
}

func encryptionConfig() *etcd.Config {
	// With encryption
	config := etcd.DefaultConfig().
		WithEndpoints("localhost:2379").
		WithEncryption([]byte("32-byte-encryption-key-here!!!"))
	return config
}

func highlyAvailableConfig() *etcd.Config {
	config := etcd.DefaultConfig().
		WithEndpoints("etcd1:2379", "etcd2:2379", "etcd3:2379")
	return config
}

func TestConfigurationsAreValid(t *testing.T) {
	t.Parallel()
	for _, config := range []*etcd.Config{basicConfig(), authConfig(), encryptionConfig(), highlyAvailableConfig()} {
		require.NoError(t, config.Validate())
	}
	require.Equal(t, []string{"localhost:2379"}, basicConfig().Endpoints)
	require.Equal(t, 5*time.Second, basicConfig().RequestTimeout)
}

func TestBasicConfigurationReadsAndWrites(t *testing.T) {
	t.Parallel()
	requireWorks(t, basicConfig().WithEndpoints(etcdtest.New(t).Endpoints()...))
}

func TestConfigurationWithAuthenticationLogsIn(t *testing.T) {
	t.Parallel()
	server := etcdtest.New(t,
		etcdtest.WithAuth("password of root"),
		etcdtest.WithUser("username", "password", etcdtest.Permission{Prefix: "/key", Read: true, Write: true}))
	requireWorks(t, authConfig().WithEndpoints(server.Endpoints()...))

	_, err := etcd.NewClient(basicConfig().WithEndpoints(server.Endpoints()...))
	require.ErrorIs(t, err, etcd.ErrUnauthenticated, "the server wants no authentication")
}

func TestTLSConfigurationNamesEachMissingFile(t *testing.T) {
	t.Parallel()
	_, err := etcd.NewClient(tlsConfig())
	require.ErrorIs(t, err, etcd.ErrInvalidConfig)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, file := range []string{"/path/to/cert.pem", "/path/to/key.pem", "/path/to/ca.pem"} {
		require.ErrorContains(t, err, file)
	}
}

func TestConfigurationWithEncryptionHidesValuesFromTheServer(t *testing.T) {
	t.Parallel()
	client := requireWorks(t, encryptionConfig().WithEndpoints(etcdtest.New(t).Endpoints()...))
	require.True(t, client.IsEncrypted())
	stored, err := client.Raw().Get(t.Context(), "/key")
	require.NoError(t, err)
	require.Len(t, stored.Kvs, 1)
	require.NotContains(t, string(stored.Kvs[0].Value), "value")
}

func TestHighlyAvailableConfigurationWorksThroughAnyEndpoint(t *testing.T) {
	t.Parallel()
	address := etcdtest.New(t).Endpoint()
	for _, alive := range []string{"etcd1:2379", "etcd2:2379", "etcd3:2379"} {
		t.Run(alive, func(t *testing.T) {
			t.Parallel()
			requireWorks(t, highlyAvailableConfig().WithDialer(func(ctx context.Context, network, name string) (net.Conn, error) {
				if name != alive {
					return nil, errors.New("down")
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			}))
		})
	}
}

// requireWorks writes a value and reads it back.
func requireWorks(t *testing.T, config *etcd.Config) *etcd.Client {
	t.Helper()
	client := connect(t, config)
	require.NoError(t, client.Put(t.Context(), "/key", []byte("value")))
	value, err := client.Get(t.Context(), "/key")
	require.NoError(t, err)
	require.Equal(t, "value", string(value))
	return client
}
