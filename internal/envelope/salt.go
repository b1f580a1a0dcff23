package envelope

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
)

// sealsPerSalt is how many messages a writer encrypts under one salt. Fresh 12-byte nonces under each of them leave
// the bound of XAES-256-GCM practically where it is: 2^16 is far below the 2^32 that one GCM key may serve.
const sealsPerSalt = 1 << 16

// saltedGCM is suite 02 under one key: XAES-256-GCM whose derived GCM keys are kept, so that a message costs as much
// as with a GCM key that is already there. Safe for concurrent use; nothing in it locks.
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

// sealer returns a sealer for one message. Goroutines that find a salt used up at the same time each make another,
// and all but one throw theirs away.
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

// newSealer makes a sealer that counts as used once, by the caller.
func (g *saltedGCM) newSealer() (*saltedSealer, error) {
	s := new(saltedSealer)
	_, _ = rand.Read(s.salt[:]) // never fails: it ends the program instead
	s.used.Store(1)
	var err error
	s.aead, err = newSealer(g.kdf.subkey(s.salt))
	return s, err
}

// open decrypts salt ‖ nonce ‖ ciphertext ‖ tag in place, of which the header's check has seen enough to be there.
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
	// Only now: whoever can write to etcd but has no key cannot push genuine salts out.
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

// set mixes all of the salt into the index (Fibonacci hashing): salts of other writers may be counters and not random.
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

// put stores o in a free place of its set, or in place of one of the others in turn. Two goroutines may store the
// same salt twice, which does no harm.
func (c *openerCache) put(o *saltedOpener) {
	set := c.set(o.salt)
	for i := range set {
		if set[i].CompareAndSwap(nil, o) {
			return
		}
	}
	set[c.turn.Add(1)%cacheWays].Store(o)
}
