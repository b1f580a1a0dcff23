package etcdtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// streamWindow is the smallest initial window of a stream that HTTP/2 allows.
const streamWindow = 64<<10 - 1

// process is a member in a child of this process.
type process struct {
	cmd   *exec.Cmd
	log   *childLog
	conn  *grpc.ClientConn // to the child, past everything that might refuse clients
	ended chan struct{}    // closed when the child is gone and its log is complete
	exit  error            // how it ended
}

// runProcess starts the program of s, which listens on one address and tells clients
// another one, and waits until it is ready.
func runProcess(s *Server, listen, advertise *url.URL) (member, error) {
	p := &process{log: &childLog{to: s.settings.logger}, ended: make(chan struct{})}
	p.cmd = exec.Command(s.binary.path, s.binary.flags(s, listen, advertise)...) //nolint:gosec // the program is the caller's to choose
	p.cmd.Env = environment(os.Environ())
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = endWithParent
	var err error
	if p.conn, err = dialChild(s, listen); err != nil {
		return nil, err
	}
	if err := p.start(); err != nil {
		return nil, errors.Join(err, p.conn.Close())
	}
	if err := p.awaitReady(); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// start starts the child on a thread that lives as long as the child does: to Linux, the
// end of the thread that started a child is the end of its parent.
func (p *process) start() error {
	started := make(chan error)
	go func() {
		defer close(p.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.exit = p.cmd.Wait()
		}
	}()
	return <-started
}

// awaitReady waits for any answer of the server: etcd only serves when it is ready. With
// authentication on, the answer is a refusal.
func (p *process) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	go func() {
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		_, err := pb.NewMaintenanceClient(p.conn).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
		switch {
		case ctx.Err() != nil:
			return p.failure()
		case status.Code(err) != codes.Unavailable:
			return nil
		}
	}
}

// failure returns why the child isn't ready.
func (p *process) failure() error {
	select {
	case <-p.ended:
		return p.log.explain(fmt.Errorf("%s gave up: %w", p.cmd.Path, p.exit))
	default:
		return p.log.explain(fmt.Errorf("%s is not ready after %v", p.cmd.Path, readyTimeout))
	}
}

// stop kills the child: after a request to terminate, etcd would give open watches over 5
// s to end. The kernel has the child's data, and keeps it.
func (p *process) stop() {
	_ = p.conn.Close()
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
}

func (p *process) auth() pb.AuthClient { return pb.NewAuthClient(p.conn) }

// dialChild returns a connection to a child that is about to listen.
func dialChild(s *Server, listen *url.URL) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if listen.Scheme == "https" {
		creds = credentials.NewTLS(&tls.Config{
			Certificates:       []tls.Certificate{s.identity.client},
			InsecureSkipVerify: true, //nolint:gosec // the server's certificate may be a wrong one on purpose
		})
	}
	return grpc.NewClient("passthrough:///"+listen.Host,
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.5, MaxDelay: 50 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		// A small window keeps a stream of answers behind a front in step with its
		// reader, as inside a server.
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(1<<20),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
}
