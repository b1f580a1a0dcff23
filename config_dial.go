package etcd

// dialing returns how connections are opened. It takes a resolved Config.
func (c *Config) dialing() Params {
	p := Params{Endpoints: c.endpoints(), Open: c.Dialer, Resolver: c.resolver(), Timeout: c.DialTimeout}
	if c.hasCredentials() {
		logger := c.Logger
		p.Exposed = func(endpoint string) { warnOfPlaintext(logger, endpoint) }
	}
	if secure, _ := c.byTransport(); len(secure) > 0 {
		p.TLS = &TLSParams{
			CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile,
			Config: c.TLSConfig, ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify, Logger: c.Logger,
		}
	}
	return p
}
