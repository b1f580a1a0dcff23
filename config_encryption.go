package etcd

import (
	"errors"
	"fmt"
	"slices"

	"github.com/blueprint-go/etcd/internal/errs"
)

// WithKeyring sets Keyring. A nil ring never means plaintext: [NewClient] refuses it with
// [ErrInvalidKey].
func (c *Config) WithKeyring(ring *Keyring) *Config {
	c.Keyring, c.ring = ring, true
	return c
}

// WithAEAD sets Keyring to a ring of one key: aead, under an ID that goes into each value
// and belongs to this AEAD alone (see [NewAEADKey]). Any Tink AEAD fits. A nil aead never
// means plaintext: [NewClient] refuses it with [ErrInvalidKey].
func (c *Config) WithAEAD(id KeyID, aead AEAD) *Config {
	var ring *Keyring
	if key, err := NewAEADKey(id, aead); err == nil {
		ring, _ = NewKeyring(key) // one usable key makes a ring
	}
	return c.WithKeyring(ring)
}

// WithKeyProvider sets KeyProvider.
func (c *Config) WithKeyProvider(p KeyProvider) *Config {
	c.KeyProvider = p
	return c
}

// WithAssociatedContext sets AssociatedContext to a copy of context.
func (c *Config) WithAssociatedContext(context []byte) *Config {
	c.AssociatedContext = slices.Clone(context)
	return c
}

// WithPlaintextReads sets PlaintextReads. The prefix "" means every key.
func (c *Config) WithPlaintextReads(prefixes ...string) *Config {
	c.PlaintextReads = slices.Clone(prefixes)
	return c
}

// WithPlaintextWrites sets PlaintextWrites. The prefix "" means every key.
func (c *Config) WithPlaintextWrites(prefixes ...string) *Config {
	c.PlaintextWrites = slices.Clone(prefixes)
	return c
}

// WithUnencryptedPrefixes sets UnencryptedPrefixes.
func (c *Config) WithUnencryptedPrefixes(prefixes ...string) *Config {
	c.UnencryptedPrefixes = slices.Clone(prefixes)
	return c
}

// WithLegacyKey sets the legacy key to a copy of key, out of sight, and LegacyPrefixes;
// the field LegacyKey stays nil. [NewClient] refuses a nil or empty key with
// [ErrInvalidKey], and a key without a prefix. The prefix "" means every key.
func (c *Config) WithLegacyKey(key []byte, prefixes ...string) *Config {
	key, c.LegacyKey = append([]byte{}, key...), nil // never nil, which would mean none
	c.conceal(func(s *secrets) { s.legacyKey = key })
	c.LegacyPrefixes = slices.Clone(prefixes)
	return c
}

// encrypts reports whether encryption was asked for, with any kind of key.
func (c *Config) encrypts() bool { return c.hasKey() || c.hasKeyring() }

func (c *Config) hasKey() bool { return c.encrypt || c.EncryptionKey != nil }

func (c *Config) hasKeyring() bool { return c.ring || c.Keyring != nil }

func checkEncryptionKey(c *Config) error {
	if !c.hasKey() {
		return nil
	}
	_, err := NewEncryptionKey(c.EncryptionKey)
	return err
}

func checkKeyring(c *Config) error {
	if c.hasKeyring() && c.Keyring.current() == emptyKeySet {
		return fmt.Errorf("%w: no key", ErrInvalidKey)
	}
	return nil
}

// checkEncryptionPolicy refuses a policy that would not be applied: that is worse than
// none.
func checkEncryptionPolicy(c *Config) error {
	if c.encrypts() {
		return nil
	}
	var causes []error
	for _, p := range []struct {
		field string
		set   bool
	}{
		{"KeyProvider", c.KeyProvider != nil},
		{"AssociatedContext", len(c.AssociatedContext) > 0},
		{"PlaintextReads", len(c.PlaintextReads) > 0},
		{"PlaintextWrites", len(c.PlaintextWrites) > 0},
		{"UnencryptedPrefixes", len(c.UnencryptedPrefixes) > 0},
		{"LegacyKey", c.LegacyKey != nil},
		{"LegacyPrefixes", len(c.LegacyPrefixes) > 0},
	} {
		if p.set {
			causes = append(causes, fmt.Errorf("%s is set without a key", p.field))
		}
	}
	return errs.Join(causes)
}

func checkLegacyKey(c *Config) error {
	if c.LegacyKey != nil && len(c.LegacyKey) == 0 {
		return fmt.Errorf("%w: empty", ErrInvalidKey)
	}
	return nil
}

func checkLegacyPrefixes(c *Config) error {
	switch hasKey, hasPrefix := c.LegacyKey != nil, len(c.LegacyPrefixes) > 0; {
	case hasKey && !hasPrefix:
		return fmt.Errorf("LegacyKey is set without one; %q would mean every key", "")
	case !hasKey && hasPrefix:
		return errors.New("set without LegacyKey")
	}
	return nil
}

func checkUnencryptedPrefixes(c *Config) error {
	if slices.Contains(c.UnencryptedPrefixes, "") {
		return errors.New("one is empty")
	}
	return nil
}
