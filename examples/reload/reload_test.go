package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
	"github.com/blueprint-go/etcd/live"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func get(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	require.Equal(t, http.StatusOK, w.Code)
	return w.Body.String()
}

func TestServiceTakesOverGoodConfigurationsOnly(t *testing.T) {
	server := etcdtest.New(t)
	client, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(server.Endpoints()...))
	require.NoError(t, err)
	defer client.Close()
	config, err := live.Open[Config](t.Context(), client, prefix, live.WithDefaults(defaults), live.WithValidate(validate))
	require.NoError(t, err)
	var out lines
	var level slog.LevelVar
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: &level}))
	var both sync.WaitGroup
	both.Go(func() { follow(t.Context(), config, logger, &level) })
	both.Go(func() { report(t.Context(), config, logger) })
	h := handler(config, logger)
	require.Equal(t, "Hello\n", get(t, h, "/"))

	put := func(key, value string) { require.NoError(t, client.Put(t.Context(), prefix+key, []byte(value))) }
	put("greeting", "Good evening")
	require.Eventually(t, func() bool { return get(t, h, "/") == "Good evening\n" }, patience, time.Millisecond)
	put("log/level", "debug")
	require.Eventually(t, func() bool { return level.Level() == slog.LevelDebug }, patience, time.Millisecond)
	put("timeout", "-1s")
	require.Eventually(t, func() bool { return config.Err() != nil }, patience, time.Millisecond)
	require.Contains(t, get(t, h, "/health"), "a timeout of -1s")
	require.Equal(t, "Good evening\n", get(t, h, "/"))
	config.Close()
	both.Wait()
	require.Contains(t, out.String(), "fields=[Greeting]")
	require.Contains(t, out.String(), "fields=[Log.Level]")
	require.Contains(t, out.String(), "configuration refused")
}

func TestServiceRunsOnAnEtcdOfItsOwn(t *testing.T) {
	t.Setenv("ETCD_ENDPOINTS", "") // brings it back afterwards
	require.NoError(t, os.Unsetenv("ETCD_ENDPOINTS"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	file := filepath.Join(t.TempDir(), "last")
	go func() {
		err := run(ctx, l.Addr().String(), file)
		assert.NoError(t, err)
		ended <- err
	}()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	require.Eventually(t, func() bool {
		resp, err := (&http.Client{Transport: transport}).Get("http://" + l.Addr().String() + "/")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && string(body) == "Hello\n"
	}, patience, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}
