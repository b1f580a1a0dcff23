package envelope

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
)

// sealsPerSalt is how many messages a writer encrypts under one salt. With fresh 12-byte nonces under each of them,
// the bound of XAES-256-GCM practically stays the same: 2^16 is far below the 2^32 that one GCM key may serve.
const sealsPerSalt = 1 << 16

// saltedGCM is suite 02 under one key: XAES-256-GCM that keeps its derived GCM keys, so that a message costs as much
// as with an existing GCM key. Safe for concurrent use; it never locks.
type saltedGCM struct {
	kdf     *xaes
	current atomic.Pointer[saltedSealer]
	openers openerCache
}

type saltedSealer struct {
	salt [saltSize]byte
	aead cipher.AEAD
	used atomic.Uint32
}

func newSaltedGCM(key []byte) (*saltedGCM, error) {
	kdf, err := newXAES(key)
	if err != nil {
		return nil, err
	}
	return &saltedGCM{kdf: kdf}, nil
}

// sealer returns a sealer for one message. Goroutines that find a salt used up at the same time each make another
// one, and all but one discard theirs.
func (g *saltedGCM) sealer() (*saltedSealer, error) {
	for {
		s := g.current.Load()
		if s != nil && s.used.Add(1) <= sealsPerSalt {
			return s, nil
		}
		fresh, err := g.newSealer()
		if err != nil {
			return nil, err
		}
		if g.current.CompareAndSwap(s, fresh) {
			return fresh, nil
		}
	}
}

// newSealer makes a sealer that already counts as used once, by the caller.
func (g *saltedGCM) newSealer() (*saltedSealer, error) {
	s := new(saltedSealer)
	_, _ = rand.Read(s.salt[:]) // never fails: it ends the program instead
	s.used.Store(1)
	var err error
	s.aead, err = newSealer(g.kdf.subkey(s.salt))
	return s, err
}

// open decrypts salt ‖ nonce ‖ ciphertext ‖ tag in place. The check of the header has ensured that these are there.
func (g *saltedGCM) open(message, associatedData []byte) ([]byte, error) {
	id := idOfSalt(message)
	if o := g.openers.get(id); o != nil {
		return o.open(message[saltSize:], associatedData)
	}
	o, err := newOpener(g.kdf.subkey([saltSize]byte(message)))
	if err != nil {
		return nil, ErrDecrypt
	}
	plaintext, err := o.open(message[saltSize:], associatedData)
	if err != nil {
		return nil, err
	}
	// Only now: without a key, somebody who can write to etcd must not be able to displace genuine salts.
	g.openers.put(&saltedOpener{opener: o, salt: id})
	return plaintext, nil
}

const (
	cacheSets = 256
	cacheWays = 4
)

// saltID is a salt as two integers, which compare several times faster than twelve bytes.
type saltID struct {
	head uint64
	tail uint32
}

func idOfSalt(message []byte) saltID {
	return saltID{binary.LittleEndian.Uint64(message), binary.LittleEndian.Uint32(message[8:])}
}

type saltedOpener struct {
	opener
	salt saltID
}

// openerCache keeps up to 1024 openers, about a kilobyte each, by salt. It is a set-associative table of pointers: a
// lookup reads at most four of them, takes no lock and allocates nothing. The zero value is empty.
type openerCache struct {
	table [cacheSets][cacheWays]atomic.Pointer[saltedOpener]
	turn  atomic.Uint32
}

// set mixes the whole salt into the index (Fibonacci hashing): other writers may use counters rather than random
// salts.
func (c *openerCache) set(salt saltID) *[cacheWays]atomic.Pointer[saltedOpener] {
	const phi = 0x9E3779B97F4A7C15 // 2^64 over the golden ratio
	mixed := (salt.head*phi ^ uint64(salt.tail)) * phi
	return &c.table[mixed>>32%cacheSets]
}

func (c *openerCache) get(salt saltID) *saltedOpener {
	set := c.set(salt)
	for i := range set {
		if o := set[i].Load(); o != nil && o.salt == salt {
			return o
		}
	}
	return nil
}

// put stores o in a free place of its set, or replaces the others in turn. Two goroutines may store the same salt
// twice, which does no harm.
func (c *openerCache) put(o *saltedOpener) {
	set := c.set(o.salt)
	for i := range set {
		if set[i].CompareAndSwap(nil, o) {
			return
		}
	}
	set[c.turn.Add(1)%cacheWays].Store(o)
}
