package etcd

import (
	"bytes"
	"context"
)

// Names of the calls, for errors.
const (
	opSeal   = "seal"
	opUnseal = "unseal"
)

// Seal returns what [Client.Put] would store under key for value: encrypted and compressed
// as the configuration says for that key, with the namespace and the key bound into it. It
// is for what is kept outside of etcd under the same protection, such as a copy in a file.
// A nil value means an empty one.
//
// It sends nothing, unless it needs a key that is kept elsewhere or a stored keyring that
// isn't known to be current; that takes at most [Config.RequestTimeout] where ctx has no
// deadline. A value may be larger than one that etcd takes. The result is the caller's.
//
// What is sealed with the primary key of today isn't found by [Client.Reencrypt]: keep the
// key in the ring, or seal again before it is retired.
//
// The errors are those of a put before it is sent: [ErrNilContext], [ErrClosed],
// [ErrEmptyKey], [ErrTooLarge] for the key, [ErrNoPrimaryKey], [ErrKeyringStale],
// [ErrKeyUnavailable], [ErrValueTooLarge].
func (c *Client) Seal(ctx context.Context, key string, value []byte) ([]byte, error) {
	stored, err := c.sealing(ctx, key)
	if err != nil {
		return nil, fail(opSeal, key, err)
	}
	sealed, by, err := c.codec.encode(ctx, stored, value)
	if err != nil {
		return nil, fail(opSeal, key, err)
	}
	if by == nil { // it may be the caller's value itself
		sealed = append(make([]byte, 0, len(sealed)), sealed...)
	}
	return sealed, nil
}

// Unseal returns the value of stored, which [Client.Seal] made or which was read from etcd
// as it is there ([Client.Raw]), as a read of key would return it. An empty value is not
// nil. Neither stored nor the result is kept or shared.
//
// It sends nothing, unless it needs a key that isn't in this process; that takes at most
// [Config.RequestTimeout] where ctx has no deadline.
//
// What can't be decoded is a [*DecodeError], as of reads: among others, [ErrDecrypt] for a
// value that was sealed for another key or namespace, or changed, [ErrUnknownKey] for one
// whose key the keyring lacks, and [ErrNotEncrypted] for one that isn't encrypted though it
// has to be. A key that can't be had at the moment is [ErrKeyUnavailable]. Bad arguments are
// refused as by Seal.
func (c *Client) Unseal(ctx context.Context, key string, stored []byte) ([]byte, error) {
	storedKey, err := c.sealing(ctx, key)
	if err != nil {
		return nil, fail(opUnseal, key, err)
	}
	value, err := c.codec.decode(ctx, storedKey, bytes.Clone(stored))
	if err != nil {
		return nil, fail(opUnseal, key, undecoded(key, err))
	}
	return value, nil
}

// sealing returns key as stored, or why Seal and Unseal can't begin.
func (c *Client) sealing(ctx context.Context, key string) ([]byte, error) {
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	return c.stored(key)
}
