package etcd

import (
	"bytes"
	"fmt"
	"time"
)

// DefaultKeyringFreshness is how long a process writes with the keys of a [StoredKeyring]
// after it last confirmed them, unless [WithKeyringFreshness] says otherwise.
const DefaultKeyringFreshness = 5 * time.Minute

// minKeyringFreshness is the shortest useful freshness: the stored ring is read five
// times in it.
const minKeyringFreshness = time.Second

// KeyringOption changes [CreateKeyring] and [OpenKeyring]: [WithKeyringContext],
// [WithRetiredKeys] and [WithKeyringFreshness].
type KeyringOption interface{ applyKeyring(*keyringOptions) }

type keyringOptions struct {
	environment []byte
	retired     bool
	freshness   time.Duration
}

type keyringOption func(*keyringOptions)

func (f keyringOption) applyKeyring(o *keyringOptions) { f(o) }

// WithKeyringContext names the environment that a ring belongs to, such as a cluster and
// a stage. It goes into the seal and is not stored: a ring that was created under another
// context, or under none, does not open ([ErrDecrypt]). So one outer key can serve
// several clusters.
func WithKeyringContext(environment []byte) KeyringOption {
	environment = bytes.Clone(environment)
	return keyringOption(func(o *keyringOptions) { o.environment = environment })
}

// WithRetiredKeys makes the ring decrypt with the retired keys too, for reading an older
// revision, a backup or an export. Without it, their values fail with [ErrUnknownKey].
func WithRetiredKeys() KeyringOption {
	return keyringOption(func(o *keyringOptions) { o.retired = true })
}

// WithKeyringFreshness sets how long the process goes on writing with keys that it can't
// confirm: a second or more. It reads the stored ring five times in that time, one small
// request each. After it, writes fail with [ErrKeyringStale] until the ring can be read
// again, so that a process cut off from the ring's changes does not go on writing with a
// key that was retired meanwhile.
//
// It must be the same in all processes, and less than the age that
// [StoredKeyring.RetireKey] demands.
func WithKeyringFreshness(d time.Duration) KeyringOption {
	return keyringOption(func(o *keyringOptions) { o.freshness = d })
}

func keyringOptionsOf(opts []KeyringOption) (keyringOptions, error) {
	o := keyringOptions{freshness: DefaultKeyringFreshness}
	err := optionsOf(opts, &o, KeyringOption.applyKeyring)
	if err == nil && o.freshness < minKeyringFreshness {
		err = fmt.Errorf("%w: freshness of %v, want at least %v", ErrInvalidArgument, o.freshness, minKeyringFreshness)
	}
	return o, err
}
