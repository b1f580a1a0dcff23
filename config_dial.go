package etcd

import "github.com/blueprint-go/etcd/internal/dial"

// dialing returns how connections are opened. c must be resolved.
func (c *Config) dialing() dial.Params {
	p := dial.Params{Endpoints: c.endpoints(), Open: c.Dialer, Resolver: c.resolver(), Timeout: c.DialTimeout}
	if c.hasCredentials() {
		logger := c.Logger
		p.Exposed = func(endpoint string) { warnOfPlaintext(logger, endpoint) }
	}
	if secure, _ := c.byTransport(); len(secure) > 0 {
		p.TLS = &dial.TLSParams{
			CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile,
			Config: c.TLSConfig, ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify, Logger: c.Logger,
		}
	}
	return p
}
