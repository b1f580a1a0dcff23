// Runs the reference reader over the published vectors and prints what came of each case, for a test to compare:
//
//   node read_vectors.mjs <reader.mjs> <value_v1.json>
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import * as zlib from 'node:zlib';

const { Ring, ValueReader, openGCM } = await import(pathToFileURL(process.argv[2]));
const vectors = JSON.parse(readFileSync(process.argv[3]));
const bytes = (hex) => Buffer.from(hex, 'hex');
const keys = new Map(vectors.keys.map((key) => [key.name, key]));

function addTo(ring, { external, id, material }) {
  if (!external) return ring.add(bytes(material));
  return ring.addExternal(bytes(id), (sealed, ad) => openGCM(bytes(material), sealed, ad));
}

function outcome(attempt) {
  try {
    return { value: attempt().toString('hex') };
  } catch (e) {
    return { error: e.name };
  }
}

const read = (c, options) =>
  outcome(() => {
    const ring = (c.keys ?? '').split(' ').filter(Boolean).reduce((r, name) => addTo(r, keys.get(name)), new Ring());
    return new ValueReader(ring, { context: c.context, maxSize: c.max_size, ...options }).open(c.etcd_key, bytes(c.stored));
  });
const cases = vectors.cases.map((c) => read(c, { allowUnencrypted: true }));
const strict = vectors.cases.map((c) => read(c, {}));
const invalidKeys = vectors.invalid_keys.map((key) => outcome(() => new Ring().add(bytes(key.material))));
console.log(JSON.stringify({ zstd: Boolean(zlib.zstdDecompressSync), cases, strict, invalid_keys: invalidKeys }));
