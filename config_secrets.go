package etcd

import (
	"slices"
)

// conceal changes the secrets of c. It makes a new function, because copies of c share
// the old one.
func (c *Config) conceal(change func(*secrets)) {
	var s secrets
	if c.secrets != nil {
		s = c.secrets()
	}
	change(&s)
	c.secrets = func() secrets { return s }
}

// revealed returns a copy of c with its secrets in the fields. A field that was set
// directly overrides what its setter was given.
func (c *Config) revealed() *Config {
	r := *c
	if c.secrets == nil {
		return &r
	}
	s := c.secrets()
	setDefault(&r.Password, s.password)
	setDefault(&r.Token, s.token)
	if r.EncryptionKey == nil {
		r.EncryptionKey = slices.Clone(s.encryptionKey)
	}
	if r.LegacyKey == nil {
		r.LegacyKey = slices.Clone(s.legacyKey)
	}
	r.secrets = nil
	return &r
}

// forgetSecrets overwrites and drops the secrets of a Config that nobody else
// shares.
func (c *Config) forgetSecrets() {
	clear(c.EncryptionKey)
	clear(c.LegacyKey)
	c.EncryptionKey, c.LegacyKey, c.Password, c.Token = nil, nil, "", ""
}
