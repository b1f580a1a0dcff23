// Command reload is an HTTP service whose configuration is kept in etcd and taken over
// while it runs. A bad one is logged and not taken, and the last good one starts the
// service while etcd is away.
//
//	go run ./examples/reload                              # with an etcd of its own
//	ETCD_ENDPOINTS=localhost:2379 go run ./examples/reload -file /var/tmp/reload.last
//
// Then change it, at the address of etcd that the first way logs, and ask again:
//
//	etcdctl --endpoints localhost:2379 put /reload/greeting 'Good evening'
//	curl localhost:8080/ localhost:8080/health
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
	"github.com/blueprint-go/etcd/live"
)

const prefix = "/reload/"

// Config is the configuration of the service: /reload/greeting, /reload/timeout and
// /reload/log/level.
type Config struct {
	Greeting string
	Timeout  time.Duration // of a request
	Log      struct{ Level slog.Level }
}

func defaults() Config { return Config{Greeting: "Hello", Timeout: time.Second} }

func validate(c *Config) error {
	if c.Timeout <= 0 {
		return fmt.Errorf("a timeout of %v", c.Timeout)
	}
	return nil
}

func main() {
	listen := flag.String("listen", "localhost:8080", "`address` to serve")
	file := flag.String("file", "", "`path` of the last good configuration")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *listen, *file)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen, file string) error {
	cfg, err := etcd.ConfigFromEnv()
	if err != nil {
		return err
	}
	if os.Getenv("ETCD_ENDPOINTS") == "" {
		server, err := etcdtest.Start()
		if err != nil {
			return err
		}
		defer func() { _ = server.Close() }()
		cfg = cfg.WithEndpoints(server.Endpoints()...)
		log.Print("etcd is at ", server.Endpoint())
	}
	client, err := etcd.NewClient(cfg.WithLazyConnect()) // etcd may be away
	if err != nil {
		return err
	}
	defer client.Close()

	options := []live.Option{live.WithDefaults(defaults), live.WithValidate(validate)}
	if file != "" {
		options = append(options, live.WithLastGood(file))
	}
	config, err := live.Open[Config](ctx, client, prefix, options...)
	if err != nil {
		return err
	}
	defer config.Close()

	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	var level slog.LevelVar
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: &level}))
	go follow(ctx, config, logger, &level) // these end with the configuration
	go report(ctx, config, logger)
	logger.Info("serving", slog.Any("address", listener.Addr()), slog.Any("configuration", config.Status().Source))
	return serve(ctx, listener, handler(config, logger))
}

// handler serves requests, each by one configuration.
func handler(config *live.Value[Config], logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		now := config.Load()
		_, cancel := context.WithTimeout(r.Context(), now.Timeout) // for the work
		defer cancel()
		logger.Debug("greeting", slog.String("from", r.RemoteAddr))
		_, _ = fmt.Fprintln(w, now.Greeting)
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		status := config.Status()
		_, _ = fmt.Fprintf(w, "revision %d, from %v, since %v\n", status.Revision, status.Source, status.Since.Format(time.RFC3339))
		if err := status.Err(); err != nil { // the service runs all the same
			_, _ = fmt.Fprintln(w, "but:", err)
		}
		if err := status.LastGood; err != nil { // the next start may lack it
			_, _ = fmt.Fprintln(w, "but:", err)
		}
	})
	return mux
}

// follow acts on changes, where loading the configuration isn't enough.
func follow(ctx context.Context, config *live.Value[Config], logger *slog.Logger, level *slog.LevelVar) {
	changes := config.Changes(ctx) // before Load, so that none is missed
	level.Set(config.Load().Log.Level)
	for change := range changes {
		if change.Err != nil {
			return
		}
		level.Set(change.New.Log.Level)
		logger.Info("configuration changed", slog.Int64("revision", change.Revision), slog.Any("fields", change.Fields))
	}
}

// report logs configurations that were refused.
func report(ctx context.Context, config *live.Value[Config], logger *slog.Logger) {
	for err := range config.Rejections(ctx) {
		logger.Error("configuration refused", slog.Any("error", err))
	}
}

// serve serves until ctx ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Shutdown(context.WithoutCancel(ctx)) })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
