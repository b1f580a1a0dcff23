package etcd

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// EncryptionStatus says how the values under a prefix are stored, at one revision.
type EncryptionStatus struct {
	// Revision is the revision at which all values were looked at.
	Revision int64
	// Total is the number of keys: the sum of all the others.
	Total int64
	// ByKey counts the values by the key that encrypted them.
	ByKey map[KeyID]int64
	// BySuite counts the same values by the algorithm that encrypted them. When
	// [EncryptionKey.WithPlainGCM] is added or removed, [Client.Reencrypt] rewrites all
	// but the primary key's suite.
	BySuite map[Suite]int64
	// Legacy counts the values of the Blueprint provider that the legacy key opens.
	Legacy int64
	// Plaintext counts the unencrypted values, compressed or not.
	Plaintext int64
	// Unencrypted counts the values under prefixes that are meant to be unencrypted, see
	// [Config.UnencryptedPrefixes].
	Unencrypted int64
	// Unreadable counts the values in the frame of the format that are damaged or of a
	// later version.
	Unreadable int64
}

// EncryptionStatus looks at every value under prefix, all at one revision, and counts
// them by their encryption, the values of leaders of an [Election] among them, but not the records
// of claims ([Lock.Queue]). The empty prefix means all keys. It takes one round trip for
// about every 4 MiB of values, and holds no more than that in memory.
//
// It proves what is stored at that revision, and no more. A value of an older key can
// still be stored later by an instance that still has an older primary key, by a request
// that was under way when its instance got the new one, by an import of values as stored,
// and by [Client.Raw]. Once all of these have ended, the result holds for every later
// revision too.
//
// It reads only the header of an encrypted value. The header names the key, but only
// decrypting the value proves it. Only a value that is not in this format is decrypted,
// with [Config.LegacyKey] if that is set. If the revision is compacted during the call,
// the error is [ErrCompacted].
func (c *Client) EncryptionStatus(ctx context.Context, prefix string) (EncryptionStatus, error) {
	const op = "encryption status"
	rng, err := c.prefixRange(prefix)
	if err != nil {
		return EncryptionStatus{}, fail(op, prefix, err)
	}
	out := EncryptionStatus{ByKey: map[KeyID]int64{}, BySuite: map[Suite]int64{}}
	pages := c.newPager(request{op: op, key: prefix}, rng, pagerOptions{bytes: rewriteRead, pinned: true, leaders: true})
	for pages.more() {
		page, err := pages.read(ctx)
		if err != nil {
			return EncryptionStatus{}, err
		}
		for _, kv := range page {
			out.count(c.codec, kv)
		}
	}
	out.Revision = pages.revision
	return out, nil
}

func (s *EncryptionStatus) count(c *codec, kv *mvccpb.KeyValue) {
	s.Total++
	suite, err := envelope.SuiteOf(kv.Value)
	id, encrypted := envelope.KeyIDOf(kv.Value)
	switch {
	case under(c.excluded, kv.Key):
		s.Unencrypted++
	case encrypted:
		s.ByKey[KeyID(id)]++
		s.BySuite[suiteOf(suite)]++
	case err == nil && suite == envelope.NoSuite:
		s.Plaintext++
	case envelope.IsEnvelope(kv.Value):
		s.Unreadable++
	case c.isLegacy(kv.Key, kv.Value):
		s.Legacy++
	default:
		s.Plaintext++
	}
}
