package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/blueprint-go/etcd/internal/dial"
	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/secret"
)

// WithDiscoverySRV sets DiscoverySRV and DiscoverySRVName, and drops any Endpoints set
// before. The name is empty unless several clusters share a domain.
func (c *Config) WithDiscoverySRV(domain, name string) *Config {
	c.Endpoints = nil
	c.DiscoverySRV, c.DiscoverySRVName = domain, name
	return c
}

// WithResolver sets Resolver.
func (c *Config) WithResolver(r *net.Resolver) *Config {
	c.Resolver = r
	return c
}

// The services of RFC 2782 under which a domain names its servers, as in etcdctl and in
// clientv3's package srv.
const (
	serviceTLS       = "etcd-client-ssl"
	servicePlaintext = "etcd-client"
)

// discovered replaces DiscoverySRV of a resolved Config by the endpoints it stands for.
func (c *Config) discovered() error {
	if c.DiscoverySRV == "" {
		return nil
	}
	if err := c.discover(); err != nil {
		return fail("connect", "", errs.WithKind(ErrUnavailable, fmt.Errorf("look up the endpoints: %w", err)))
	}
	return c.Validate()
}

// discover replaces DiscoverySRV by the Endpoints that the domain names. It takes
// at most DialTimeout.
func (c *Config) discover() error {
	if err := checkDiscovery(c); err != nil { // values from the environment are not checked yet
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.DialTimeout)
	defer cancel()
	found, err := c.lookUp(ctx, serviceTLS, "https")
	if err != nil {
		// Must not pass for the absence of TLS: that would mean plaintext.
		return err
	}
	if len(found) == 0 {
		if found, err = c.lookUp(ctx, servicePlaintext, "http"); err != nil {
			return err
		}
	}
	if len(found) == 0 {
		return fmt.Errorf("domain %q has no SRV record of _%s._tcp or _%s._tcp",
			c.DiscoverySRV, c.service(serviceTLS), c.service(servicePlaintext))
	}
	c.Endpoints, c.DiscoverySRV, c.DiscoverySRVName = found, "", ""
	return nil
}

func (c *Config) service(name string) string {
	if c.DiscoverySRVName != "" {
		name += "-" + c.DiscoverySRVName
	}
	return name
}

// lookUp returns the endpoints of one service. A service that doesn't exist has none.
func (c *Config) lookUp(ctx context.Context, service, scheme string) ([]string, error) {
	_, records, err := c.resolver().LookupSRV(ctx, c.service(service), "tcp", c.DiscoverySRV)
	if missing, ok := errors.AsType[*net.DNSError](err); ok && missing.IsNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var endpoints []string
	for _, r := range records {
		if host := strings.TrimSuffix(r.Target, "."); host != "" { // a single dot means that there is none
			endpoints = append(endpoints, scheme+"://"+net.JoinHostPort(host, strconv.Itoa(int(r.Port))))
		}
	}
	return endpoints, nil
}

func (c *Config) resolver() *net.Resolver {
	if c.Resolver != nil {
		return c.Resolver
	}
	return net.DefaultResolver
}

// isDomain reports whether name can be looked up: RFC 1035, section 2.3.4.
func isDomain(name string) bool {
	const longest, longestLabel = 253, 63
	if len(name) > longest || secret.LooksLikeKey(name) || strings.ContainsFunc(name, dial.NotInHost) {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > longestLabel {
			return false
		}
	}
	return true
}
