package integration

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// admin returns a raw client of the user root, to change users.
func admin(t *testing.T, srv *etcdtest.Server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: srv.Endpoints(), Username: "root", Password: rootPassword,
		DialTimeout: 20 * time.Second, Logger: zap.NewNop(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func TestWrongCredentialsFailFastAndAreNeverPrinted(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth(rootPassword))
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for name, tc := range map[string]struct {
		cfg  *etcd.Config
		want error
	}{
		"wrong password":   {config(srv).WithAuth("root", "the-wrong-password"), etcd.ErrAuthFailed},
		"unknown user":     {config(srv).WithAuth("nobody", "the-wrong-password"), etcd.ErrAuthFailed},
		"no user":          {config(srv), etcd.ErrUnauthenticated},
		"bad token":        {config(srv).WithToken("the-wrong-password.1"), etcd.ErrUnauthenticated},
		"no password":      {config(srv).WithAuth("root", ""), etcd.ErrInvalidConfig},
		"password, nobody": {config(srv).WithAuth("", "the-wrong-password"), etcd.ErrInvalidConfig},
		"token and user":   {config(srv).WithAuth("root", "the-wrong-password").WithToken("the-wrong-password.1"), etcd.ErrInvalidConfig},
	} {
		began := time.Now()
		c, err := etcd.NewClient(tc.cfg.WithLogger(logger).WithDialTimeout(patience))
		require.Nil(t, c, name)
		require.ErrorIs(t, err, tc.want, name)
		require.Less(t, time.Since(began), patience/2, name)
		require.False(t, etcd.IsRetryable(err), name)
		for _, verb := range []string{"%v", "%+v", "%#v", "%q"} {
			require.NotContains(t, fmt.Sprintf(verb, err), "the-wrong-password", name)
		}
	}
	require.NotContains(t, log.String(), "the-wrong-password")
}

func TestGivenTokenIsUsed(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth(rootPassword))
	resp, err := admin(t, srv).Authenticate(t.Context(), "root", rootPassword)
	require.NoError(t, err)
	c := client(t, config(srv).WithToken(resp.Token))
	require.NoError(t, c.Put(t.Context(), "key", nil))

	// A restart forgets the token, unless the server was killed before it had
	// committed the log entry with it.
	require.NoError(t, second(admin(t, srv).Defragment(t.Context(), srv.Endpoint())))
	require.NoError(t, srv.Restart())
	err = second(c.Get(within(t, patience), "key"))
	require.ErrorIs(t, err, etcd.ErrUnauthenticated)
	require.NotContains(t, err.Error(), resp.Token)
}

func TestExpiredTokenIsReplacedWithinTheRequest(t *testing.T) {
	t.Parallel()
	deleted := make(chan struct{}, 100)
	logger := zap.New(zapcore.RegisterHooks(
		zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zap.DebugLevel),
		func(e zapcore.Entry) error {
			if strings.Contains(e.Message, "deleted a simple token") {
				deleted <- struct{}{}
			}
			return nil
		}))
	srv, faults := faultyServer(t, etcdtest.WithAuth(rootPassword), etcdtest.WithAuthTokenTTL(time.Second), etcdtest.WithLogger(logger))
	c := client(t, root(srv).WithTimeout(busyTimeout))
	require.Equal(t, int64(1), faults.authentications.Load())
	expire := func() {
		t.Helper()
		select {
		case <-deleted:
		case <-within(t, patience).Done():
			t.Fatal("the token does not expire")
		}
	}

	expire()
	s := &script{}
	require.NoError(t, c.Put(faults.follow(t.Context(), s), prefix(t), nil))
	require.Equal(t, int64(1), s.executed.Load())
	require.Equal(t, int64(2), faults.authentications.Load())

	expire()
	s = &script{}
	ctx := faults.follow(t.Context(), s)
	var requests sync.WaitGroup
	for i := range 50 {
		requests.Go(func() { assert.NoError(t, c.Put(ctx, fmt.Sprint(prefix(t), i), nil)) })
	}
	requests.Wait()
	require.Equal(t, int64(50), s.executed.Load())
	require.Equal(t, int64(3), faults.authentications.Load(), "one for all of them")
}

func TestRequestsAndWatchesSurviveAForgottenToken(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t, etcdtest.WithAuth(rootPassword))
	c := client(t, root(srv).WithTimeout(busyTimeout))
	changes := c.WatchPrefix(t.Context(), prefix(t))

	for i := range 3 {
		require.NoError(t, srv.Restart())
		key := fmt.Sprint(prefix(t), i)
		s := &script{}
		// A read first, lest the write meet the dying connection.
		require.ErrorIs(t, second(c.Get(t.Context(), key)), etcd.ErrKeyNotFound)
		require.NoError(t, c.Put(faults.follow(within(t, patience), s), key, nil))
		require.Equal(t, int64(1), s.executed.Load())
		select {
		case r := <-changes:
			require.NoError(t, r.Err())
			require.Equal(t, key, r.Events[0].Kv.Key)
		case <-within(t, patience).Done():
			t.Fatal("the watch is silent")
		}
	}
}

func TestUserWhoLostThePasswordIsToldSo(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth(rootPassword), reader(), etcdtest.WithUser("leaver", userPassword))
	raw := admin(t, srv)

	c := client(t, config(srv).WithAuth("reader", userPassword))
	require.NoError(t, c.Put(t.Context(), "/open/key", nil))
	_, err := raw.UserChangePassword(t.Context(), "reader", "another")
	require.NoError(t, err)
	err = c.Put(t.Context(), "/open/key", nil)
	require.ErrorIs(t, err, etcd.ErrAuthFailed)
	require.False(t, etcd.MaybeApplied(err))
	require.NotContains(t, err.Error(), userPassword)
	require.ErrorIs(t, second(c.Get(t.Context(), "/open/key")), etcd.ErrAuthFailed)

	_, err = raw.UserChangePassword(t.Context(), "reader", userPassword)
	require.NoError(t, err)
	require.NoError(t, c.Put(t.Context(), "/open/key", nil), "back when the password is")

	c = client(t, config(srv).WithAuth("leaver", userPassword))
	_, err = raw.UserDelete(t.Context(), "leaver")
	require.NoError(t, err)
	require.ErrorIs(t, second(c.Get(t.Context(), "/open/key")), etcd.ErrAuthFailed)
}

func TestRefusedPermissionIsTypedAndNamesTheKey(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth(rootPassword), reader())
	c := client(t, config(srv).WithAuth("reader", userPassword))
	require.NoError(t, c.Put(t.Context(), "/open/key", nil))
	for _, err := range []error{
		c.Put(t.Context(), "/closed/key", nil),
		second(c.Get(t.Context(), "/closed/key")),
		second(c.Delete(t.Context(), "/closed/key")),
		second(c.Txn().Then(etcd.OpPut("/closed/key", nil)).Commit(t.Context())),
	} {
		require.ErrorIs(t, err, etcd.ErrPermissionDenied)
		require.ErrorContains(t, err, `"/closed/key"`)
		require.False(t, etcd.MaybeApplied(err))
	}
	require.ErrorIs(t, c.BulkPut(t.Context(), map[string][]byte{"/closed/key": nil, "/open/key2": nil}), etcd.ErrPermissionDenied)
	exists, err := c.Exists(t.Context(), "/open/key2")
	require.NoError(t, err)
	require.False(t, exists, "nothing of it was written")
}

func TestCredentialsMayComeBeforeAuthenticationIsSwitchedOn(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, root(srv))
	require.NoError(t, c.Put(t.Context(), "key", nil))

	raw, err := clientv3.New(clientv3.Config{Endpoints: srv.Endpoints(), Logger: zap.NewNop()})
	require.NoError(t, err)
	defer func() { require.NoError(t, raw.Close()) }()
	_, err = raw.UserAdd(t.Context(), "root", rootPassword)
	require.NoError(t, err)
	_, err = raw.UserGrantRole(t.Context(), "root", "root")
	require.NoError(t, err)
	_, err = raw.AuthEnable(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Put(t.Context(), "key", nil))
	require.NoError(t, second(c.Get(t.Context(), "key")))
}

// Each change of a role makes the tokens before it old. Requests go on
// nevertheless.
func TestRequestsGoOnWhileRolesChange(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t, etcdtest.WithAuth(rootPassword), reader())
	c := client(t, config(srv).WithAuth("reader", userPassword))
	raw := admin(t, srv)

	for i := range 5 {
		_, err := raw.RoleAdd(t.Context(), fmt.Sprint("role", i))
		require.NoError(t, err)
		require.NoError(t, c.Put(t.Context(), "/open/key", nil))
		require.NoError(t, second(c.Get(t.Context(), "/open/key")))
	}

	before := faults.authentications.Load()
	for _, old := range []error{rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCInvalidAuthToken} {
		s := &script{answer: old, times: 2, refuse: true}
		require.NoError(t, c.Put(faults.follow(t.Context(), s), "/open/key", nil))
		require.Equal(t, int64(1), s.executed.Load())
	}
	require.Equal(t, before+4, faults.authentications.Load())

	s := &script{answer: rpctypes.ErrGRPCInvalidAuthToken, refuse: true}
	err := c.Put(faults.follow(t.Context(), s), "/open/key", nil)
	require.ErrorIs(t, err, etcd.ErrUnauthenticated, "not for ever")
	require.False(t, etcd.MaybeApplied(err))
	require.LessOrEqual(t, s.seen.Load(), int64(4))
}
