package envelope_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// packed is text(200) as a payload: compressed once, by a real encoder, since encoders differ between versions.
const packed = "000000c828b52ffd24c8ad0100c40274686520717569636b2062726f776e20666f78206a756d7073206f76657220746865206c617a7920646f670a015417052bccbc461b9cf4"

// a hundred letters in one run, as a payload.
func letters(announced uint32, trailing ...byte) []byte {
	length := binary.BigEndian.AppendUint32(nil, announced)
	return slices.Concat(length, frameHeader(100), block(rle, true, 100, []byte("a")), trailing)
}

func (m *vectorMaker) opens() []vectorCase {
	a := func(comment string, stored, value []byte) vectorCase {
		return vectorCase{Comment: comment, Keys: "A", EtcdKey: "/k", Stored: hex.EncodeToString(stored), Value: hex.EncodeToString(value)}
	}
	example := a("the format's example", unhex(m.t, exampleValue), []byte(exampleText))
	example.EtcdKey = exampleKey
	inContext := a("context", m.sealIn("prod/eu-west-1", envelope.XAES256GCM, 0, []byte("v")), []byte("v"))
	inContext.Context = "prod/eu-west-1"
	second := a("key that is not the first of the ring", m.seal(envelope.XAES256GCM, 0, []byte("v")), []byte("v"))
	second.Keys = "B A"
	external := a("suite 80", m.sealExternal([]byte("v")), []byte("v"))
	external.Keys = "A E"
	return []vectorCase{
		example,
		a("suite 02, empty value", m.seal(envelope.XAES256GCM, 0, nil), nil),
		a("suite 02, 1000 bytes", m.seal(envelope.XAES256GCM, 0, dense(1000)), dense(1000)),
		a("suite 02, compressed", m.seal(envelope.XAES256GCM, 1, unhex(m.t, packed)), text(200)),
		a("suite 01", m.seal(envelope.AES256GCM, 0, []byte("v")), []byte("v")),
		a("suite 01, empty value", m.seal(envelope.AES256GCM, 0, nil), nil),
		a("suite 01, compressed", m.seal(envelope.AES256GCM, 1, letters(100)), bytes.Repeat([]byte("a"), 100)),
		a("suite 00, begins with the magic", []byte("\xFFecv\x01\x00\x00\x00\xFFecvalue"), []byte("\xFFecvalue")),
		a("suite 00, empty", []byte("\xFFecv\x01\x00\x00\x00"), nil),
		a("suite 00, compressed", slices.Concat([]byte("\xFFecv\x01\x00\x01\x00"), unhex(m.t, packed)), text(200)),
		inContext, second, external,
	}
}

func (m *vectorMaker) refused(comment, err string, stored []byte) vectorCase {
	return vectorCase{Comment: comment, Keys: "A E", EtcdKey: "/k", Stored: hex.EncodeToString(stored), Error: err}
}

func (m *vectorMaker) refusedByHeader() []vectorCase {
	good := m.seal(envelope.XAES256GCM, 0, []byte("v"))
	with := func(at int, b byte) []byte {
		changed := slices.Clone(good)
		changed[at] = b
		return changed
	}
	return []vectorCase{
		m.refused("nothing stored", "ErrNotEncrypted", nil),
		m.refused("plaintext", "ErrNotEncrypted", []byte("plaintext")),
		m.refused("part of the magic", "ErrNotEncrypted", good[:3]),
		m.refused("version 2", "ErrUnsupportedFormat", with(4, 2)),
		m.refused("version 0", "ErrUnsupportedFormat", with(4, 0)),
		m.refused("suite 03", "ErrUnsupportedFormat", with(5, 3)),
		m.refused("compression 2", "ErrUnsupportedFormat", with(6, 2)),
		m.refused("flag 10", "ErrUnsupportedFormat", with(6, 0x10)),
		m.refused("reserved byte", "ErrUnsupportedFormat", with(7, 1)),
		m.refused("version 2, cut behind it", "ErrUnsupportedFormat", with(4, 2)[:5]),
		m.refused("magic alone", "ErrCorrupt", good[:4]),
		m.refused("header alone", "ErrCorrupt", good[:24]),
		m.refused("one byte less than suite 02 can have", "ErrCorrupt", good[:63]),
		m.refused("one byte less than suite 01 can have", "ErrCorrupt", m.seal(envelope.AES256GCM, 0, nil)[:51]),
	}
}

func (m *vectorMaker) refusedByKey() []vectorCase {
	good := m.seal(envelope.XAES256GCM, 0, []byte("value"))
	flipped := func(at int) []byte {
		changed := slices.Clone(good)
		changed[at] ^= 1
		return changed
	}
	otherSuite := slices.Clone(good)
	otherSuite[5] = byte(envelope.AES256GCM)
	flags := slices.Clone(good)
	flags[6] = 1
	unknown := m.refused("key not in the ring", "ErrUnknownKey", good)
	unknown.Keys = "B E"
	empty := m.refused("no keys", "ErrUnknownKey", good)
	empty.Keys = ""
	moved := m.refused("moved to another key", "ErrDecrypt", good)
	moved.EtcdKey = "/other"
	context := m.refused("another context", "ErrDecrypt", m.sealIn("prod", envelope.XAES256GCM, 0, []byte("v")))
	context.Context = "test"
	return []vectorCase{
		unknown, empty, m.refused("key id changed", "ErrUnknownKey", flipped(8)),
		moved, context,
		m.refused("salt changed", "ErrDecrypt", flipped(24)),
		m.refused("nonce changed", "ErrDecrypt", flipped(36)),
		m.refused("ciphertext changed", "ErrDecrypt", flipped(48)),
		m.refused("tag changed", "ErrDecrypt", flipped(len(good)-1)),
		m.refused("cut by a byte", "ErrDecrypt", good[:len(good)-1]),
		m.refused("another suite claimed", "ErrDecrypt", otherSuite),
		m.refused("compression claimed", "ErrDecrypt", flags),
		m.refused("external value changed", "ErrDecrypt", append(m.sealExternal([]byte("v")), 0)),
	}
}

func (m *vectorMaker) refusedByPayload() []vectorCase {
	x := func(comment, err string, payload []byte) vectorCase {
		return m.refused(comment, err, m.seal(envelope.XAES256GCM, 1, payload))
	}
	limited := x("longer than the limit", "ErrValueTooLarge", letters(100))
	limited.MaxSize = 99
	return []vectorCase{
		x("no length", "ErrCorrupt", []byte{0, 0, 0}),
		x("no frame", "ErrCorrupt", []byte{0, 0, 0, 100}),
		x("announced too short", "ErrCorrupt", letters(99)),
		x("announced too long", "ErrCorrupt", letters(101)),
		x("trailing byte", "ErrCorrupt", letters(100, 0)),
		x("second frame", "ErrCorrupt", letters(200, letters(100)[4:]...)),
		x("skippable frame behind", "ErrCorrupt", letters(100, []byte("\x50\x2a\x4d\x18\x00\x00\x00\x00")...)),
		m.refused("suite 00, not a frame", "ErrCorrupt", []byte("\xFFecv\x01\x00\x01\x00\x00\x00\x00\x03abc")),
		limited,
		x("4 GiB announced", "ErrValueTooLarge", letters(1<<32-1)),
	}
}

// easilyMissed are cases that a reader with a mistake in it may get past all the others without.
func (m *vectorMaker) easilyMissed() []vectorCase {
	opens := func(comment string, stored, value []byte) vectorCase {
		return vectorCase{Comment: comment, Keys: "A", EtcdKey: "/k", Stored: hex.EncodeToString(stored), Value: hex.EncodeToString(value)}
	}
	v := []byte("v")
	// Of the keys above, none needs the reduction when CMAC's subkey is made.
	third := opens("key whose CMAC subkey is reduced", m.sealAt("/k", thirdMaterial, "", envelope.XAES256GCM, 0, v), v)
	third.Keys = "A B C"
	const umlaut = "/schl\u00fcssel"
	utf8 := opens("etcd key beyond ASCII", m.sealAt(umlaut, []byte(readmeKey), "", envelope.XAES256GCM, 0, v), v)
	utf8.EtcdKey = umlaut
	payload := func(announced uint32, frame ...[]byte) []byte {
		return m.seal(envelope.XAES256GCM, 1, slices.Concat(binary.BigEndian.AppendUint32(nil, announced), slices.Concat(frame...)))
	}
	// A content size of two bytes counts from 256.
	twoByteSize := []byte("\x28\xb5\x2f\xfd\x60\x2c\x00")
	run := func(n int) []byte { return block(rle, true, n, []byte("a")) }
	return []vectorCase{
		third, utf8,
		opens("frame of 300 bytes", payload(300, twoByteSize, run(300)), bytes.Repeat([]byte("a"), 300)),
		opens("frame that does not tell its size", payload(100, frameHeader(-1), run(100)), bytes.Repeat([]byte("a"), 100)),
		opens("frame of two blocks", payload(5, frameHeader(5), block(raw, false, 3, []byte("abc")), block(rle, true, 2, v)), []byte("abcvv")),
		opens("frame of an empty value", payload(0, frameHeader(0), block(raw, true, 0, nil)), nil),
		m.refused("announced too short, in a frame that does not tell its size", "ErrCorrupt", payload(99, frameHeader(-1), run(100))),
		m.refused("announced too long, in a frame that does not tell its size", "ErrCorrupt", payload(101, frameHeader(-1), run(100))),
	}
}
