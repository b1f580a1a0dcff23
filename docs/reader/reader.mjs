// Reads values that a client with encryption or compression stored in etcd: version 1 of the format that
// docs/encryption.md describes. It needs nothing but Node.js 20 or later; compressed values need one whose
// node:zlib has zstd (22.15 or later).
//
//   import { Ring, ValueReader } from './reader.mjs';
//   const reader = new ValueReader(new Ring().add(fs.readFileSync('key')));
//   reader.open('/app/config', stored);   // a Buffer, or a ValueError is thrown
//
// A value that is not encrypted (suite 00) is ErrNotEncrypted: nothing protects it, and whoever can write to etcd can
// make one. { allowUnencrypted: true } opens those as well, for a client with compression and without a key.
import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import * as zlib from 'node:zlib';

const MAGIC = Buffer.from('ff656376', 'hex');
const SUITE_NONE = 0x00, SUITE_GCM = 0x01, SUITE_XAES = 0x02, SUITE_EXTERNAL = 0x80;
const LEAST_SIZE = { [SUITE_NONE]: 8, [SUITE_GCM]: 52, [SUITE_XAES]: 64, [SUITE_EXTERNAL]: 24 };
const TAG_SIZE = 16;
const MAX_BLOCK = 128 << 10; // RFC 8878, 3.1.1.2.4

// What the bytes behind the magic may be; anything else is from a later version.
const KNOWN = {
  4: (b) => b === 1, // version
  5: (b) => b in LEAST_SIZE, // suite
  6: (b) => b <= 1, // flags: compressed by zstd, or not
  7: (b) => b === 0, // reserved
};

// The names are those of the Go package's errors. The messages hold no part of a value.
export class ValueError extends Error {
  constructor(name, message = '') {
    super(message);
    this.name = name;
  }
}

// The keys that a reader has.
export class Ring {
  #keys = new Map();

  // Adds a key of 16 to 4096 bytes, exactly as they are: never decoded or padded.
  add(material) {
    if (material.length < 16 || material.length > 4096 || material.every((b) => b === 0)) {
      throw new ValueError('ErrInvalidKey', 'a key has 16 to 4096 bytes that are not all zero');
    }
    const derive = (info, size) =>
      Buffer.from(hkdfSync('sha256', material, 'etcd-value-encryption/v1', info, size));
    const xaes = derive('XAES-256-GCM', 32);
    const gcm = derive('AES-256-GCM', 32);
    const open = (suite, sealed, ad) => {
      if (suite === SUITE_GCM) return openGCM(gcm, sealed, ad);
      if (suite === SUITE_XAES) return openGCM(subkey(xaes, sealed.subarray(0, 12)), sealed.subarray(12), ad);
      throw new Error('the key is one for other suites');
    };
    this.#keys.set(derive('key-id', 16).toString('hex'), open);
    return this;
  }

  // Adds an AEAD for suite 80: decrypt(ciphertext, associatedData) returns a Buffer or throws.
  addExternal(id, decrypt) {
    this.#keys.set(id.toString('hex'), (suite, sealed, ad) => {
      if (suite !== SUITE_EXTERNAL) throw new Error('the key is one for another suite');
      return decrypt(sealed, ad);
    });
    return this;
  }

  get(id) {
    return this.#keys.get(id.toString('hex'));
  }
}

export class ValueReader {
  #ring;
  #context;
  #maxSize;
  #allowUnencrypted;

  // context is the client's AssociatedContext. maxSize limits what a value may decompress to.
  constructor(ring, { context = '', maxSize = 16 << 20, allowUnencrypted = false } = {}) {
    this.#ring = ring;
    this.#context = Buffer.from(context);
    this.#maxSize = maxSize;
    this.#allowUnencrypted = allowUnencrypted === true;
  }

  // Returns the value of what is stored, a Buffer, at etcdKey, which includes the namespace. The two may share memory.
  open(etcdKey, stored) {
    const suite = checkHeader(stored);
    let payload = stored.subarray(8);
    if (suite === SUITE_NONE) {
      if (!this.#allowUnencrypted) throw new ValueError('ErrNotEncrypted', 'suite 00');
    } else {
      const open = this.#ring.get(stored.subarray(8, 24));
      if (!open) throw new ValueError('ErrUnknownKey', `key ${stored.subarray(8, 12).toString('hex')}…`);
      try {
        payload = open(suite, stored.subarray(24), this.#associatedData(stored, etcdKey));
      } catch {
        throw new ValueError('ErrDecrypt'); // one error for every cause
      }
    }
    return stored[6] === 1 ? decompress(payload, this.#maxSize) : payload;
  }

  #associatedData(stored, etcdKey) {
    return Buffer.concat([stored.subarray(0, 24), uint32(this.#context.length), this.#context, Buffer.from(etcdKey)]);
  }
}

function checkHeader(stored) {
  if (!stored.subarray(0, 4).equals(MAGIC)) throw new ValueError('ErrNotEncrypted');
  for (let at = 4; at < Math.min(8, stored.length); at++) {
    if (!KNOWN[at](stored[at])) throw new ValueError('ErrUnsupportedFormat', `byte ${at}`);
  }
  if (stored.length < 8 || stored.length < LEAST_SIZE[stored[5]]) throw new ValueError('ErrCorrupt', 'too short');
  return stored[5];
}

// sealed is nonce(12) ‖ ciphertext ‖ tag(16).
export function openGCM(key, sealed, ad) {
  const end = sealed.length - TAG_SIZE;
  const gcm = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12), { authTagLength: TAG_SIZE });
  gcm.setAAD(ad);
  gcm.setAuthTag(sealed.subarray(end));
  return Buffer.concat([gcm.update(sealed.subarray(12, end)), gcm.final()]); // final throws unless the tag is right
}

// The AES-256-GCM key that XAES-256-GCM uses with a salt: https://c2sp.org/XAES-256-GCM
function subkey(key, salt) {
  const encrypt = (block) => createCipheriv('aes-256-ecb', key, null).update(block);
  const k1 = double(encrypt(Buffer.alloc(16)));
  const half = (n) => encrypt(Buffer.concat([Buffer.from([0, n, 0x58, 0]), salt]).map((b, i) => b ^ k1[i]));
  return Buffer.concat([half(1), half(2)]);
}

// Multiplication by x in GF(2^128), for the subkey K1 of CMAC.
function double(block) {
  return block.map((b, i) => (b << 1) ^ (i < 15 ? block[i + 1] >> 7 : (block[0] >> 7) * 0x87));
}

// payload is uint32(size) ‖ one zstd frame.
function decompress(payload, maxSize) {
  if (payload.length < 4) throw new ValueError('ErrCorrupt', 'no length');
  const size = payload.readUInt32BE();
  if (size > maxSize) throw new ValueError('ErrValueTooLarge', `${size} bytes, the limit is ${maxSize}`);
  const frame = payload.subarray(4);
  if (!isOneFrame(frame, size)) throw new ValueError('ErrCorrupt', 'not one frame of that size');
  if (!zlib.zstdDecompressSync) throw new ValueError('ErrNoZstd', 'this node:zlib has no zstd');
  let value;
  try {
    value = zlib.zstdDecompressSync(frame, { maxOutputLength: Math.max(size, 1) });
  } catch {
    throw new ValueError('ErrCorrupt', 'the frame does not decompress');
  }
  if (value.length !== size) throw new ValueError('ErrCorrupt', 'another size than announced');
  return value;
}

// Decoders go on to what follows a frame, or leave it; here nothing may follow (RFC 8878, 3.1.1).
function isOneFrame(frame, size) {
  if (frame.length < 6 || frame.readUInt32LE() !== 0xfd2fb528) return false;
  const [descriptor, single] = [frame[4], (frame[4] >> 5) & 1];
  const sizeBytes = [single, 2, 4, 8][descriptor >> 6];
  const sizeAt = 5 + (1 - single) + [0, 1, 2, 4][descriptor & 3];
  let at = sizeAt + sizeBytes;
  if (frame.length < at) return false;
  if (sizeBytes > 0 && littleEndian(frame.subarray(sizeAt, at)) + (sizeBytes === 2 ? 256 : 0) !== size) return false;
  let literal = 0; // bytes that raw and run-length blocks stand for
  let compressed = 0; // what other blocks may stand for, at most
  for (let last = 0; !last; ) {
    if (frame.length < at + 3) return false;
    const block = frame.readUIntLE(at, 3);
    last = block & 1;
    const [kind, blockSize] = [(block >> 1) & 3, block >> 3];
    if (kind < 2) literal += blockSize;
    else compressed += MAX_BLOCK;
    at += 3 + (kind === 1 ? 1 : blockSize);
  }
  if (literal > size || size > literal + compressed) return false;
  return at + (descriptor & 4 ? 4 : 0) === frame.length;
}

const littleEndian = (bytes) => bytes.reduceRight((n, b) => n * 256 + b, 0);

function uint32(n) {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(n);
  return b;
}
