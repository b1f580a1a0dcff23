package export

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// The names of the forms.
const (
	formDecrypted = "decrypted"
	formStored    = "stored"
)

func appendHeader(b []byte, h Header) []byte {
	b = append(b, '{')
	b = appendString(member(b, "format"), format)
	b = appendInt(b, "version", version)
	b = member(b, "form")
	if h.Stored {
		b = appendString(b, formStored)
		b = appendBytes(b, "namespace", h.Namespace)
	} else {
		b = appendString(b, formDecrypted)
	}
	b = appendBytes(b, "prefix", h.Prefix)
	b = appendInt(b, "revision", h.Revision)
	return append(b, '}', '\n')
}

func appendEntry(b []byte, e Entry) []byte {
	b = append(b, '{')
	b = appendBytes(b, "key", e.Key)
	value := "value"
	if e.Stored {
		value = "stored"
	}
	b = appendBytes(b, value, e.Value)
	b = appendInt(b, "create_revision", e.CreateRevision)
	b = appendInt(b, "mod_revision", e.ModRevision)
	b = appendInt(b, "version", e.Version)
	if e.Lease != 0 {
		b = appendString(member(b, "lease"), fmt.Sprintf("%016x", uint64(e.Lease)))
		if e.LeaseTTL != NoTTL {
			b = appendInt(b, "lease_ttl", e.LeaseTTL)
		}
	}
	return append(b, '}', '\n')
}

// trailerStart is how the last line begins, and no other line does.
const trailerStart = `{"count":`

func appendTrailer(b []byte, t trailer) []byte {
	b = appendInt(append(b, '{'), "count", t.count)
	b = appendString(member(b, "sha256"), hex.EncodeToString(t.digest))
	return append(b, '}', '\n')
}

// member begins a member of an object: it writes a comma after an earlier member, and the
// name. No value ends with a brace, so after a brace the member is the first.
func member(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendInt(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(member(b, name), n, 10)
}

// appendBytes writes text as a string, and anything else in Base64, under the name with
// 64 added.
func appendBytes[T string | []byte](b []byte, name string, s T) []byte {
	if isText(s) {
		return appendString(member(b, name), s)
	}
	b = append(member(b, name+"64"), '"')
	b = base64.StdEncoding.AppendEncode(b, []byte(s))
	return append(b, '"')
}

// isText reports whether s can be a string: it is UTF-8, without control characters that
// JSON writers spell in several ways.
func isText[T string | []byte](s T) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return utf8.Valid([]byte(s))
}

// appendString writes a string of text. It escapes only what RFC 8259 demands.
func appendString[T string | []byte](b []byte, s T) []byte {
	b = append(b, '"')
	done := 0
	for i := range len(s) {
		c := s[i]
		switch c {
		case '"', '\\':
		case '\t':
			c = 't'
		case '\n':
			c = 'n'
		case '\r':
			c = 'r'
		default:
			continue
		}
		b = append(b, s[done:i]...)
		b = append(b, '\\', c)
		done = i + 1
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}

// The reasons for which a reader refuses a line.
var (
	errNotJSON   = errors.New("not an object of JSON")
	errNotThis   = errors.New("not the first line of an export")
	errNotSo     = errors.New("not as this format writes it")
	errOtherForm = errors.New("value is not in the form of the file")
)

// either returns a member that is a string or, under another name, Base64.
func either(text *string, binary []byte) []byte {
	if text != nil {
		return []byte(*text)
	}
	return binary
}

func parseHeader(line []byte) (Header, error) {
	var m struct {
		Format      string
		Version     int64
		Form        string
		Namespace   *string
		Namespace64 []byte
		Prefix      *string
		Prefix64    []byte
		Revision    int64
	}
	err := json.Unmarshal(line, &m)
	switch {
	case m.Format != format:
		return Header{}, errNotThis
	case m.Version != version:
		return Header{}, fmt.Errorf("version %d of the format, only %d is known", m.Version, version)
	case err != nil:
		return Header{}, errNotSo
	}
	h := Header{
		Stored:    m.Form == formStored,
		Namespace: string(either(m.Namespace, m.Namespace64)),
		Prefix:    string(either(m.Prefix, m.Prefix64)),
		Revision:  m.Revision,
	}
	if !bytes.Equal(appendHeader(nil, h), line) {
		return Header{}, errNotSo
	}
	return h, nil
}

// parseEntry returns the entry of a line and, in the memory of again, the line as it
// should be written.
func parseEntry(line, again []byte) (Entry, []byte, error) {
	var m struct {
		Key            *string
		Key64          []byte
		Value          *string
		Value64        []byte
		Stored         *string
		Stored64       []byte
		CreateRevision int64  `json:"create_revision"`
		ModRevision    int64  `json:"mod_revision"`
		Version        int64  `json:"version"`
		Lease          string `json:"lease"`
		LeaseTTL       *int64 `json:"lease_ttl"`
	}
	if json.Unmarshal(line, &m) != nil {
		return Entry{}, again, errNotJSON // its own error quotes values
	}
	e := Entry{
		Key:            string(either(m.Key, m.Key64)),
		Value:          either(m.Value, m.Value64),
		Stored:         m.Stored != nil || m.Stored64 != nil,
		CreateRevision: m.CreateRevision,
		ModRevision:    m.ModRevision,
		Version:        m.Version,
		LeaseTTL:       NoTTL,
	}
	if e.Stored {
		e.Value = either(m.Stored, m.Stored64)
	}
	if m.LeaseTTL != nil {
		e.LeaseTTL = *m.LeaseTTL
	}
	id, err := strconv.ParseUint(m.Lease, 16, 64)
	if err != nil && m.Lease != "" {
		return Entry{}, again, errNotSo
	}
	e.Lease = int64(id)
	if again = appendEntry(again[:0], e); !bytes.Equal(again, line) {
		return Entry{}, again, errNotSo
	}
	return e, again, nil
}

func parseTrailer(line []byte) (trailer, error) {
	var m struct {
		Count  int64
		SHA256 string
	}
	if json.Unmarshal(line, &m) != nil {
		return trailer{}, errNotJSON
	}
	digest, err := hex.DecodeString(m.SHA256)
	t := trailer{m.Count, digest}
	if err != nil || !bytes.Equal(appendTrailer(nil, t), line) {
		return trailer{}, errNotSo
	}
	return t, nil
}
