package etcd

import (
	"context"
	"log/slog"
)

// WithCredentials sets Credentials.
func (c *Config) WithCredentials(f func(ctx context.Context) (user, password string, err error)) *Config {
	c.Credentials = f
	return c
}

// WithTokenSource sets TokenSource.
func (c *Config) WithTokenSource(f func(ctx context.Context) (token string, err error)) *Config {
	c.TokenSource = f
	return c
}

// hasCredentials reports whether requests carry anything that only the server may see.
func (c *Config) hasCredentials() bool {
	return c.Username != "" || c.Token != "" || c.Credentials != nil || c.TokenSource != nil
}

// skipsVerification reports whether any certificate is accepted. Functions of TLSConfig
// may verify instead.
func (c *Config) skipsVerification() bool {
	t := c.TLSConfig
	return c.InsecureSkipVerify ||
		t != nil && t.InsecureSkipVerify && t.VerifyConnection == nil && t.VerifyPeerCertificate == nil
}

// plaintextCredentials returns the endpoints to which a password or a token would be sent
// in plaintext over a network.
func (c *Config) plaintextCredentials() []string {
	if !c.hasCredentials() {
		return nil
	}
	var names []string
	for _, e := range c.endpoints() {
		if !e.IsTLS(c.usesTLS()) && !e.IsLocal() {
			names = append(names, e.Name())
		}
	}
	return names
}

// warnOfCredentials logs where credentials can be overheard or taken.
func (c *Config) warnOfCredentials() {
	for _, endpoint := range c.plaintextCredentials() {
		warnOfPlaintext(c.Logger, endpoint)
	}
	if secure, _ := c.byTransport(); len(secure) > 0 && c.hasCredentials() && c.skipsVerification() {
		c.Logger.Warn("etcd: credentials are sent to servers whose certificates are not verified", slog.Any("endpoints", secure))
	}
}

func warnOfPlaintext(logger *slog.Logger, endpoint string) {
	logger.Warn("etcd: credentials are sent in plaintext; use TLS", slog.String("endpoint", endpoint))
}

// isKnown reports whether the client says to the server who it is.
func (c *Config) isKnown() bool {
	return c.hasCredentials() || c.CertFile != "" ||
		c.TLSConfig != nil && (len(c.TLSConfig.Certificates) > 0 || c.TLSConfig.GetClientCertificate != nil)
}
