package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/internal/dial"
	"github.com/blueprint-go/etcd/internal/errs"
)

// Token returns the token that goes with requests. It is a function and not a string
// because a pointer to it is kept by the client and its streams: what prints a struct by
// reflection can't look into it.
type Token func() string

func newToken(text string) *Token {
	t := Token(func() string { return text })
	return &t
}

// Auth holds the token that goes with each request and gets a new one
// when the server no longer accepts it. It is clientv3's own that is replaced
// here: that one blocks in its constructor while no server answers.
type Auth struct {
	// Functions and not strings: what prints a struct by reflection can't look
	// into them. At most one is set.
	credentials func(context.Context) (user, password string, err error)
	source      func(context.Context) (token string, err error)

	timeout      time.Duration
	token        atomic.Pointer[Token]
	authenticate Unary[*pb.AuthenticateRequest, *pb.AuthenticateResponse]
	atEndpoint   func(string, error) error
	// turn holds one value; whoever takes it asks for a token. It is a channel
	// and not a mutex because those who wait must be able to stop waiting.
	turn chan struct{}
}

// AuthParams say where tokens come from. The zero value is that of a client without any.
type AuthParams struct {
	// Username and Password, or a Token.
	Username, Password, Token string
	// Credentials or TokenSource is asked for them instead.
	Credentials func(context.Context) (user, password string, err error)
	TokenSource func(context.Context) (token string, err error)
}

func newAuth(p AuthParams, timeout time.Duration, atEndpoint func(string, error) error) *Auth {
	a := &Auth{credentials: p.Credentials, source: p.TokenSource, timeout: timeout, atEndpoint: atEndpoint, turn: make(chan struct{}, 1)}
	if user, password := p.Username, p.Password; user != "" {
		a.credentials = func(context.Context) (string, string, error) { return user, password, nil }
	}
	if p.Token != "" {
		a.token.Store(newToken(p.Token))
	}
	return a
}

// CanRefresh reports whether a new token can be had: a token given by the user
// can't be replaced.
func (a *Auth) CanRefresh() bool { return a.credentials != nil || a.source != nil }

// Current returns the token in use; nil before the first.
func (a *Auth) Current() *Token { return a.token.Load() }

// Ensure gets the first token, if tokens are in use.
func (a *Auth) Ensure(ctx context.Context) error {
	if !a.CanRefresh() || a.token.Load() != nil {
		return nil
	}
	return a.refresh(ctx, nil)
}

// Invalidate drops the token old, which the server did not accept; Ensure gets
// a new one. A newer token than old is left alone.
func (a *Auth) Invalidate(old *Token) {
	if a.CanRefresh() && old != nil {
		a.token.CompareAndSwap(old, nil)
	}
}

// refresh replaces the token old by a new one; if another goroutine has done
// so already, it does nothing. Only one request for a token is under way at a
// time, however many callers wait for it. Its error is a status, like that of the
// request which needs the token.
func (a *Auth) refresh(ctx context.Context, old *Token) error {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	if a.token.Load() != old {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	text, err := a.ask(ctx)
	if err == nil {
		a.token.Store(newToken(text))
	}
	return err
}

// ask gets a token from the user's function, or from the server.
func (a *Auth) ask(ctx context.Context) (string, error) {
	if a.source != nil {
		return askToken(ctx, a.source)
	}
	user, password, err := askCredentials(ctx, a.credentials)
	if err != nil {
		return "", err
	}
	var to peer.Peer
	began := time.Now()
	resp, err := a.authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: password}, grpc.Peer(&to))
	switch {
	case err == nil:
		return resp.GetToken(), nil
	case TimeIsUp(ctx) && to.Addr != nil:
		// The request that needs the token was not sent, and has nothing to say.
		return "", status.Error(codes.Unavailable, at(a.atEndpoint, to.Addr, dial.NoneFor("answer to the authentication", time.Since(began))).Error())
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled):
		// Credentials are given ahead of the day when authentication is
		// switched on; until then no token is needed.
		return "", nil
	}
	return "", &authError{to.Addr, err}
}

// authError is the status that an authentication ended with, and where it was
// sent.
type authError struct {
	to  net.Addr // nil if it was not sent
	err error
}

func (e *authError) Error() string { return e.err.Error() }

func (e *authError) Unwrap() error { return e.err }

func (e *authError) GRPCStatus() *status.Status { return status.Convert(e.err) }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (a *Auth) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	held := a.token.Load()
	if held == nil {
		return nil, nil
	}
	text := (*held)()
	if text == "" {
		return nil, nil
	}
	return map[string]string{rpctypes.TokenFieldNameGRPC: text}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. Config
// decides about credentials over plaintext, see Config.RequireTLS.
func (a *Auth) RequireTransportSecurity() bool { return false }

// dialOptions attaches the token to every request.
func (a *Auth) dialOptions() []grpc.DialOption {
	if !a.CanRefresh() && a.token.Load() == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(a)}
}

// askCredentials calls Config.Credentials.
func askCredentials(ctx context.Context, f func(context.Context) (string, string, error)) (user, password string, err error) {
	defer recoverCredentials(&err)
	user, password, err = f(ctx)
	switch {
	case err != nil:
		return "", "", credentialsFailure(errs.WithKind(errs.ErrCredentials, err))
	case user == "" || password == "":
		return "", "", credentialsFailure(errs.WithKind(errs.ErrCredentials, errors.New("config function Credentials returned no user name or no password")))
	}
	return user, password, nil
}

// askToken calls Config.TokenSource.
func askToken(ctx context.Context, f func(context.Context) (string, error)) (token string, err error) {
	defer recoverCredentials(&err)
	token, err = f(ctx)
	switch {
	case err != nil:
		return "", credentialsFailure(errs.WithKind(errs.ErrCredentials, err))
	case token == "":
		return "", credentialsFailure(errs.WithKind(errs.ErrCredentials, errors.New("TokenSource returned no token")))
	}
	return token, nil
}

// recoverCredentials makes an error of a panic. What it says may be a secret.
func recoverCredentials(err *error) {
	if p := recover(); p != nil {
		*err = credentialsFailure(errs.WithKind(errs.ErrCredentials, fmt.Errorf("panic of type %T", p)))
	}
}
