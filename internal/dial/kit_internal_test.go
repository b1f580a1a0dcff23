package dial

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd/internal/dial/dialtest"
	"github.com/blueprint-go/etcd/internal/errs"
)

var errScripted = errors.New("scripted failure")

// opener is what Params.Open is.
type opener = func(ctx context.Context, network, address string) (net.Conn, error)

// to leads to endpoints, in plaintext.
func to(raws ...string) Params {
	p := Params{Resolver: net.DefaultResolver}
	for _, raw := range raws {
		e, err := ParseEndpoint(raw)
		if err != nil {
			panic(err)
		}
		p.Endpoints = append(p.Endpoints, e)
	}
	return p
}

func plaintext(address string) Params { return to(address) }

func overTLS(a *dialtest.Authority, address string) Params {
	return with(to(address), TLSParams{Config: &tls.Config{RootCAs: a.Pool()}})
}

// with returns p over TLS.
func with(p Params, secure TLSParams) Params {
	secure.Logger = cmp.Or(secure.Logger, slog.Default())
	p.TLS = &secure
	return p
}

// named returns p with a server's name.
func named(p Params, name string) Params {
	secure := *p.TLS
	secure.ServerName = name
	return with(p, secure)
}

// by returns p with connections that open opens.
func by(p Params, open opener) Params {
	p.Open = open
	return p
}

// newDialer returns a dialer with the time that a client has for it by default.
func newDialer(p Params) *Dialer {
	p.Timeout = cmp.Or(p.Timeout, 5*time.Second)
	return New(p)
}

// connectOnce connects to the endpoints of p as a client does, until each of them has
// failed once or one has succeeded. It returns what the journal says then.
func connectOnce(t testing.TB, p Params) error {
	t.Helper()
	l := newDialer(p)
	if p.Timeout == 0 {
		l.timeout = 20 * time.Second // a busy machine is no cause
	}
	return connectOnceWith(t, l)
}

func connectOnceWith(t testing.TB, l *Dialer) error {
	t.Helper()
	var endpoints []string
	for _, e := range l.endpoints {
		endpoints = append(endpoints, e.raw)
	}
	changed := l.Changed()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialOptions: l.Options(), Logger: zap.NewNop()})
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	c.ActiveConnection().Connect()
	for deadline := time.After(30 * time.Second); ; {
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("nothing came of the attempt to connect")
		}
		changed = l.Changed()
		if n := len(l.Failures()); n == 0 || n == len(endpoints) {
			return troubles(l)
		}
	}
}

// troubles joins what is wrong with the endpoints of l.
func troubles(l *Dialer) error {
	var all []error
	for _, f := range l.Troubles() {
		all = append(all, f)
	}
	return errs.Join(all)
}

// requireCause connects to address and expects the failure of kind, or success
// if kind is nil.
func requireCause(t *testing.T, p Params, kind error) error {
	t.Helper()
	err := connectOnce(t, p)
	require.ErrorIs(t, err, kind)
	if kind != nil {
		assert.True(t, IsPermanent(err), "%v", err)
	}
	return err
}

func causeAs[E error](t *testing.T, err error) {
	t.Helper()
	_, ok := errors.AsType[E](err)
	assert.True(t, ok, "%T is not in the chain of %v", *new(E), err)
}
