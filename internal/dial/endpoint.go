package dial

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/blueprint-go/etcd/internal/secret"
)

// Endpoint is a configured endpoint, interpreted like clientv3
// (client/v3/internal/endpoint), but with an error where clientv3 guesses.
type Endpoint struct {
	raw     string
	scheme  string // "http", "https", "unix", "unixs", or empty for host:port
	network string // "tcp" or "unix"
	address string // host:port, or the path of the socket
	host    string // without brackets and port; empty for a socket
}

// IsTLS reports whether the endpoint uses TLS; schemeless says so for endpoints without a
// scheme.
func (e Endpoint) IsTLS(schemeless bool) bool {
	if e.scheme == "" {
		return schemeless
	}
	return e.scheme == "https" || e.scheme == "unixs"
}

// IsLocal reports whether data sent to the endpoint stays on this machine.
func (e Endpoint) IsLocal() bool {
	if e.network == "unix" || e.host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(e.host)
	return err == nil && ip.IsLoopback()
}

// Name returns the endpoint for messages: as configured, without anything that may be a
// password.
func (e Endpoint) Name() string { return secret.Shown(secret.WithoutUserinfo(e.raw)) }

// ParseEndpoint parses an endpoint in one of the forms that clientv3 accepts. Its errors
// name the endpoint.
func ParseEndpoint(raw string) (Endpoint, error) {
	e := Endpoint{raw: raw}
	if err := e.parse(); err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %q: %w", e.Name(), err)
	}
	return e, nil
}

func (e *Endpoint) parse() error {
	switch scheme, rest, found := strings.Cut(e.raw, ":"); {
	case strings.TrimSpace(e.raw) == "":
		return errors.New("is empty")
	case strings.TrimSpace(e.raw) != e.raw:
		return errors.New("has blanks around it")
	case found && (scheme == "unix" || scheme == "unixs"):
		return e.parseSocket(scheme, rest)
	case strings.Contains(e.raw, "@"):
		// First of all, so that no reason quotes a password.
		return errors.New("holds a user name; set Username and Password instead")
	case strings.Contains(e.raw, "://"):
		return e.parseURL()
	case strings.Contains(e.raw, "%"):
		// clientv3 treats the endpoint as a part of a URL.
		return errors.New("an IPv6 zone needs the form http://[address%25zone]:port")
	default:
		return e.parseHostPort(e.raw)
	}
}

// parseSocket accepts unix:path, unix:///path and, as etcd's servers print it,
// unix://path, which is relative too.
func (e *Endpoint) parseSocket(scheme, rest string) error {
	e.scheme, e.network = scheme, "unix"
	e.address = strings.TrimPrefix(rest, "//")
	if e.address == "" {
		return errors.New("missing socket path")
	}
	return nil
}

func (e *Endpoint) parseURL() error {
	u, err := url.Parse(e.raw)
	if err != nil {
		// The wrapping error repeats the URL, which is named already.
		var bad *url.Error
		if errors.As(err, &bad) {
			err = bad.Err
		}
		return unquoted(err)
	}
	switch {
	case u.Scheme == "unix" || u.Scheme == "unixs":
		return fmt.Errorf("scheme %s is written in lower case", u.Scheme)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("scheme %q is none of http, https, unix and unixs", u.Scheme)
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return errors.New("has something after the port")
	}
	e.scheme = u.Scheme
	return e.parseHostPort(u.Host)
}

// unquoted returns the reason of an error without the part of a URL that it quotes: a
// port may be a password.
func unquoted(err error) error {
	reason := err.Error()
	if first, last := strings.IndexByte(reason, '"'), strings.LastIndexByte(reason, '"'); first >= 0 {
		reason = strings.TrimSpace(reason[:first]) + " " + strings.TrimSpace(reason[last+1:])
	}
	return errors.New(strings.TrimSpace(reason))
}

func (e *Endpoint) parseHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		// As for the URL, without the address, which is named already.
		var bad *net.AddrError
		if errors.As(err, &bad) {
			err = errors.New(strings.TrimSuffix(bad.Err, " in address"))
		}
		return err
	}
	if err := checkHost(host, strings.HasPrefix(s, "[")); err != nil {
		return err
	}
	if port == "" {
		return errors.New("missing port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("port is not a number from 1 to 65535")
	}
	e.network, e.address, e.host = "tcp", s, host
	return nil
}

func checkHost(host string, bracketed bool) error {
	switch _, err := netip.ParseAddr(host); {
	case host == "":
		return errors.New("missing host")
	case bracketed && err != nil:
		return errors.New("what stands in brackets is not an IPv6 address")
	case err != nil && strings.ContainsFunc(host, NotInHost):
		return errors.New("host name holds a character that none has")
	}
	return nil
}

// NotInHost reports whether r can't be part of a host name.
func NotInHost(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune(`/\?#%,;"'<>[]`, r)
}
