package etcdtest_test

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	"github.com/blueprint-go/etcd/etcdtest"
)

func login(t *testing.T, s *etcdtest.Server, user, password string) *clientv3.Client {
	t.Helper()
	return connect(t, clientv3.Config{
		Endpoints: s.Endpoints(), TLS: s.TLSConfig(), Username: user, Password: password,
	})
}

func refused(t *testing.T, s *etcdtest.Server, user, password string) error {
	t.Helper()
	_, err := clientv3.New(clientv3.Config{
		Endpoints: s.Endpoints(), TLS: s.TLSConfig(), Username: user, Password: password,
		DialTimeout: 20 * time.Second, Logger: zap.NewNop(),
	})
	return err
}

func TestAuthLetsInThoseWithAPassword(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t, etcdtest.WithAuth("secret"))
	put(t, login(t, s, "root", "secret"), "key", "value")

	_, err := clientOf(t, s).Get(patient(t), "key")
	require.ErrorIs(t, err, rpctypes.ErrUserEmpty)
	require.ErrorIs(t, refused(t, s, "root", "wrong"), rpctypes.ErrAuthFailed)
	require.ErrorIs(t, refused(t, s, "nobody", "secret"), rpctypes.ErrAuthFailed)
}

func TestUsersMayDoWhatTheirPermissionsSay(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(
		t, etcdtest.WithAuth("secret"),
		etcdtest.WithUser("app", "pw",
			etcdtest.Permission{Prefix: "app/", Read: true, Write: true},
			etcdtest.Permission{Key: "shared", Read: true}),
		etcdtest.WithUser("feeder", "pw", etcdtest.Permission{Key: "shared", Write: true}),
		etcdtest.WithUser("auditor", "pw", etcdtest.Permission{AllKeys: true, Read: true}),
		etcdtest.WithUser("idle", "pw"),
	)
	root := login(t, s, "root", "secret")
	for _, key := range []string{"app/1", "app", "appendix", "shared", "other"} {
		put(t, root, key, "v")
	}
	for _, tc := range []struct {
		user        string
		read, write []string
	}{
		{"app", []string{"app/1", "shared"}, []string{"app/1"}},
		{"feeder", nil, []string{"shared"}},
		{"auditor", []string{"app/1", "app", "appendix", "shared", "other"}, nil},
		{"idle", nil, nil},
	} {
		t.Run(tc.user, func(t *testing.T) {
			t.Parallel()
			c := login(t, s, tc.user, "pw")
			var read, write []string
			for _, key := range []string{"app/1", "app", "appendix", "shared", "other"} {
				_, err := c.Get(patient(t), key)
				read = appendAllowed(t, read, key, err)
				_, err = c.Put(patient(t), key, "v")
				write = appendAllowed(t, write, key, err)
			}
			require.Equal(t, tc.read, read)
			require.Equal(t, tc.write, write)
		})
	}
}

func appendAllowed(t *testing.T, keys []string, key string, err error) []string {
	t.Helper()
	if err == nil {
		return append(keys, key)
	}
	require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
	return keys
}

func TestAuthSurvivesARestart(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t, etcdtest.WithAuth("secret"))
	require.NoError(t, s.Restart())
	put(t, login(t, s, "root", "secret"), "key", "value")
	require.ErrorIs(t, refused(t, s, "root", "wrong"), rpctypes.ErrAuthFailed)
}

func TestKeptDirectoryKeepsItsAuth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := etcdtest.Start(etcdtest.WithDir(dir), etcdtest.WithAuth("first"))
	require.NoError(t, err)
	require.NoError(t, first.Close())

	second := etcdtest.New(t, etcdtest.WithDir(dir), etcdtest.WithAuth("second"))
	put(t, login(t, second, "root", "first"), "key", "value")
	require.ErrorIs(t, refused(t, second, "root", "second"), rpctypes.ErrAuthFailed)
}

func TestTokenExpiresWhenItIsNotUsed(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t, etcdtest.WithAuth("secret"), etcdtest.WithAuthTokenTTL(time.Second))
	c := clientOf(t, s)
	resp, err := c.Authenticate(patient(t), "root", "secret")
	require.NoError(t, err)
	ctx := metadata.AppendToOutgoingContext(context.Background(), rpctypes.TokenFieldNameGRPC, resp.Token)
	_, err = c.Put(ctx, "key", "value")
	require.NoError(t, err)

	// Each try renews the token, hence the long interval: the TTL and the
	// second between two looks of the server, with some room.
	require.Eventually(t, func() bool {
		_, err := c.Put(ctx, "key", "value")
		return err != nil && rpctypes.Error(err) == rpctypes.ErrInvalidAuthToken
	}, 30*time.Second, 2500*time.Millisecond)
}

func TestClientCertificateCommonNameIsTheUser(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(
		t, etcdtest.WithAuth("secret"), etcdtest.WithClientCertRequired(),
		etcdtest.WithUser("ann", "", etcdtest.Permission{Prefix: "ann/", Read: true, Write: true}),
	)
	certFile, keyFile, err := s.CA().Issue(etcdtest.CommonName("ann"), etcdtest.ForClient())
	require.NoError(t, err)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	cfg := s.TLSConfig()
	cfg.Certificates = []tls.Certificate{cert}

	c := connect(t, clientv3.Config{Endpoints: s.Endpoints(), TLS: cfg})
	put(t, c, "ann/key", "value")
	_, err = c.Put(patient(t), "key", "value")
	require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
}
