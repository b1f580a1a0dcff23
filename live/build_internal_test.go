package live

import (
	"encoding/json"
	"errors"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// every has a field of each kind.
type every struct {
	Text     string
	Number   int16
	Unsigned uint8 `mapstructure:"unsigned_number"`
	Ratio    float32
	On       bool
	Timeout  time.Duration
	From     time.Time
	Address  netip.AddrPort
	Big      *big.Int
	Link     url.URL
	Bytes    []byte
	Raw      json.RawMessage
	Names    []string
	Ports    []uint16
	Pair     [2]int
	Limits   map[string]int
	Servers  []server
	ByName   map[string]server
	Server   server
	Other    *server
	Anything any
	Rest     map[string]any `mapstructure:",remain"`
	common
	Left    chan int `mapstructure:"-"`
	private int
}

type server struct {
	Host string
	Port uint16
	TLS  *struct{ Cert string }
}

type common struct{ Name string }

// statesOf returns a state of keys under "/c/".
func stateOf(values map[string]string) state {
	s := state{revision: 7, entries: map[string]entry{}}
	for key, value := range values {
		s.entries["/c/"+key] = entry{value: []byte(value)}
	}
	return s
}

func builderOf[T any](t *testing.T, prefix string, document bool, opts ...Option) *builder[T] {
	t.Helper()
	s, err := settingsOf(opts)
	require.NoError(t, err)
	b, err := newBuilder[T](prefix, document, &s)
	require.NoError(t, err)
	return b
}

// try is build with an error that is nil where there is none.
func (b *builder[T]) try(s state) (*T, error) {
	value, why := b.build(s)
	if why != nil {
		return nil, why
	}
	return value, nil
}

func TestKeysFillEveryKindOfField(t *testing.T) {
	t.Parallel()
	got, err := builderOf[every](t, "/c/", false).try(stateOf(map[string]string{
		"text": " as it is\n", "NUMBER": "-0x10\n", "unsigned_number": "255", "ratio": "1e-3", "on": "true\n",
		"timeout": "1m30s\n", "from": "2026-11-29T02:00:00Z\n", "address": "[::1]:80", "big": "123456789012345678901234567890",
		"link": "https://example.com/a?b", "bytes": "\x00\xff\n", "raw": `{"a": 1}`,
		"names": "a, b ,c", "ports": `[80, 443]`, "pair": "1,2",
		"limits/alice": "3", "limits/bob": "4",
		"servers": `[{"host": "a", "PORT": 1}, {"Host": "b"}]`, "byname/x/host": "h", "byname/y": `{"port": "2"}`,
		"server/host": "s", "server/tls/cert": "c", "other": `{"host": "o", "tls": {"cert": "d"}}`,
		"anything/a/b": "deep", "unheard/of": "kept", "name": "embedded",
	}))
	require.NoError(t, err)
	require.Equal(t, &every{
		Text: " as it is\n", Number: -16, Unsigned: 255, Ratio: 1e-3, On: true,
		Timeout: 90 * time.Second, From: time.Date(2026, 11, 29, 2, 0, 0, 0, time.UTC),
		Address: netip.MustParseAddrPort("[::1]:80"), Big: big10("123456789012345678901234567890"),
		Link:  url.URL{Scheme: "https", Host: "example.com", Path: "/a", RawQuery: "b"},
		Bytes: []byte("\x00\xff\n"), Raw: json.RawMessage(`{"a": 1}`),
		Names: []string{"a", "b", "c"}, Ports: []uint16{80, 443}, Pair: [2]int{1, 2},
		Limits:  map[string]int{"alice": 3, "bob": 4},
		Servers: []server{{Host: "a", Port: 1}, {Host: "b"}},
		ByName:  map[string]server{"x": {Host: "h"}, "y": {Port: 2}},
		Server:  server{Host: "s", TLS: &struct{ Cert string }{"c"}},
		Other:   &server{Host: "o", TLS: &struct{ Cert string }{"d"}},
		Anything: map[string]any{
			"a": map[string]any{"b": "deep"},
		},
		Rest:   map[string]any{"unheard": map[string]any{"of": "kept"}},
		common: common{Name: "embedded"},
	}, got)
}

func big10(digits string) *big.Int {
	n, _ := new(big.Int).SetString(digits, 10)
	return n
}

func TestDocumentFillsEveryKindOfField(t *testing.T) {
	t.Parallel()
	b := builderOf[every](t, "/c/doc", true)
	got, err := b.try(stateOf(map[string]string{"doc": `{
		"text": "t", "number": -16, "Unsigned_Number": 255, "ratio": 0.5, "on": true, "timeout": "90s",
		"names": ["a", "b"], "ports": "80,443", "limits": {"alice": 3}, "server": {"host": "s", "port": 65535},
		"servers": [{"port": 1}], "other": null, "big": 12345678901234567890, "anything": [1, "x"]}`, "document": "another key"}))
	require.NoError(t, err)
	require.Equal(t, &every{
		Text: "t", Number: -16, Unsigned: 255, Ratio: 0.5, On: true, Timeout: 90 * time.Second,
		Names: []string{"a", "b"}, Ports: []uint16{80, 443}, Limits: map[string]int{"alice": 3},
		Server: server{Host: "s", Port: 65535}, Servers: []server{{Port: 1}}, Big: big10("12345678901234567890"),
		Anything: []any{json.Number("1"), "x"},
	}, got)
}

// secretValue stands in values that must not show.
const secretValue = "hunter2"

func TestUnfitValuesAreNamedAndNotQuoted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		values map[string]string
		key    string // without the prefix
		field  string
	}{
		"word for a number":      {map[string]string{"number": secretValue}, "number", "Number"},
		"nothing for a number":   {map[string]string{"number": ""}, "number", "Number"},
		"nothing for a bool":     {map[string]string{"on": " "}, "on", "On"},
		"number too large":       {map[string]string{"number": "40000"}, "number", "Number"},
		"number too small":       {map[string]string{"unsigned_number": "-1"}, "unsigned_number", "unsigned_number"},
		"duration without unit":  {map[string]string{"timeout": "5"}, "timeout", "Timeout"},
		"word for a duration":    {map[string]string{"timeout": secretValue}, "timeout", "Timeout"},
		"time":                   {map[string]string{"from": secretValue}, "from", "From"},
		"text unmarshaler":       {map[string]string{"address": secretValue}, "address", "Address"},
		"link":                   {map[string]string{"link": "http://[" + secretValue}, "link", "Link"},
		"one of a list":          {map[string]string{"ports": "1," + secretValue}, "ports", "Ports"},
		"list that breaks off":   {map[string]string{"names": `["` + secretValue}, "names", "Names"},
		"array too long":         {map[string]string{"pair": "1,2,3"}, "pair", "Pair"},
		"value of a map":         {map[string]string{"limits/" + "alice": secretValue}, "limits/alice", "Limits"},
		"map that is no object":  {map[string]string{"limits": secretValue}, "limits", "Limits"},
		"struct that is no JSON": {map[string]string{"server": secretValue}, "server", "Server"},
		"struct that is a list":  {map[string]string{"server": `["` + secretValue + `"]`}, "server", "Server"},
		"struct that is null":    {map[string]string{"server": "null"}, "server", "Server"},
		"two values of JSON":     {map[string]string{"server": `{} "` + secretValue + `"`}, "server", "Server"},
		"inside of JSON":         {map[string]string{"server": `{"port": "` + secretValue + `"}`}, "server", "Server.Port"},
		"too large in JSON":      {map[string]string{"server": `{"port": 65536}`}, "server", "Server.Port"},
		"fraction in JSON":       {map[string]string{"server": `{"port": 1.5}`}, "server", "Server.Port"},
		"bool in JSON":           {map[string]string{"server": `{"port": true}`}, "server", "Server.Port"},
		"map in JSON":            {map[string]string{"byname": `{"` + secretValue + `": {"port": "x"}}`}, "byname", "ByName"},
		"below the struct":       {map[string]string{"server/port": secretValue}, "server/port", "Server.Port"},
	} {
		_, err := builderOf[every](t, "/c/", false).try(stateOf(tc.values))
		var r *RejectedError
		require.ErrorAs(t, err, &r, name)
		require.ErrorIs(t, err, etcd.ErrEncoding, name)
		require.EqualValues(t, 7, r.Revision, name)
		require.Equal(t, "/c/"+tc.key, r.Key, name)
		require.Equal(t, tc.field, r.Field, name)
		require.NotContains(t, err.Error(), secretValue, name)
		require.Contains(t, err.Error(), `"/c/`+tc.key+`"`, name)
	}
}

func TestEveryProblemIsListed(t *testing.T) {
	t.Parallel()
	_, err := builderOf[every](t, "/c/", false).try(stateOf(map[string]string{
		"number": "x", "server/port": "y", "ports": "1,z",
	}))
	var keys []string
	for _, one := range err.(*RejectedError).Err.(interface{ Unwrap() []error }).Unwrap() {
		var f *FieldError
		require.ErrorAs(t, one, &f)
		keys = append(keys, f.Key)
	}
	require.ElementsMatch(t, []string{"/c/number", "/c/server/port", "/c/ports"}, keys)

	many := map[string]string{}
	for i := range 300 {
		many["limits/"+strings.Repeat("x", i+1)] = "x"
	}
	_, err = builderOf[every](t, "/c/", false).try(stateOf(many))
	require.ErrorContains(t, err, "and 200 more")
}

func TestTwoNamesForOneFieldAreRefused(t *testing.T) {
	t.Parallel()
	for name, values := range map[string]map[string]string{
		"case":            {"number": "1", "Number": "2"},
		"case above":      {"server/host": "1", "Server/port": "2"},
		"value and below": {"server": "{}", "server/host": "h"},
		"no struct":       {"text": "a", "text/b": "b"},
		"map":             {"limits": "{}", "limits/a": "1"},
		"anything":        {"anything": "a", "anything/b": "b"},
	} {
		_, err := builderOf[every](t, "/c/", false).try(stateOf(values))
		var r *RejectedError
		require.ErrorAs(t, err, &r, name)
		require.ErrorIs(t, err, ErrSameField, name)
		for key := range values { // both are named
			require.Contains(t, err.Error(), `"/c/`+key+`"`, name)
		}
	}
	for name, document := range map[string]string{
		"case": `{"number": 1, "Number": 2}`, "inside": `{"server": {"host": "a", "HOST": "b"}}`,
		"in a list": `{"servers": [{"host": "a", "HOST": "b"}]}`,
	} {
		_, err := builderOf[every](t, "/c/doc", true).try(stateOf(map[string]string{"doc": document}))
		require.ErrorIs(t, err, ErrSameField, name)
	}
}

func TestUnknownNamesAreIgnoredUnlessStrict(t *testing.T) {
	t.Parallel()
	values := map[string]string{
		"Host": "h", "other": "o", "deep/er": "d", "port/below": "b", "": "empty", "host/": "slash", "\x00\xff": "binary",
	}
	delete(values, "host/")
	got, err := builderOf[server](t, "/c/", false).try(stateOf(values))
	require.NoError(t, err)
	require.Equal(t, &server{Host: "h"}, got)

	_, err = builderOf[server](t, "/c/", false, WithStrict()).try(stateOf(values))
	require.ErrorIs(t, err, ErrUnknownField)
	for _, key := range []string{`"/c/other"`, `"/c/deep/er"`, `"/c/port/below"`, `"/c/"`, `"/c/\x00\xff"`} {
		require.Contains(t, err.Error(), key)
	}
	require.NotContains(t, err.Error(), `"/c/Host"`)

	doc := stateOf(map[string]string{"doc": `{"host": "h", "extra": 1, "tls": {"key": "k"}}`})
	got, err = builderOf[server](t, "/c/doc", true).try(doc)
	require.NoError(t, err)
	require.Equal(t, "h", got.Host)
	_, err = builderOf[server](t, "/c/doc", true, WithStrict()).try(doc)
	require.ErrorIs(t, err, ErrUnknownField)
	require.ErrorContains(t, err, "extra")
	require.ErrorContains(t, err, "TLS")
}

func TestPrefixIsCutWithOrWithoutItsSlash(t *testing.T) {
	t.Parallel()
	s := stateOf(map[string]string{"host": "h"})
	for _, prefix := range []string{"/c/", "/c", ""} {
		b := builderOf[server](t, prefix, false)
		if prefix == "" {
			s = state{entries: map[string]entry{"host": {value: []byte("h")}}}
		}
		got, err := b.try(s)
		require.NoError(t, err, prefix)
		require.Equal(t, "h", got.Host, prefix)
	}
}

func TestDefaultsStayWhereThereIsNoKey(t *testing.T) {
	t.Parallel()
	type config struct {
		Host   string
		Limits map[string]int
		Names  []string
		Server *server
		Inner  server
	}
	shared := config{
		Host: "default", Limits: map[string]int{"a": 1}, Names: []string{"a", "b", "c"},
		Server: &server{Host: "h", Port: 1}, Inner: server{Host: "i", Port: 2},
	}
	b := builderOf[config](t, "/c/", false, WithDefaults(func() config { return shared }))
	got, err := b.try(stateOf(map[string]string{
		"limits/b": "2", "names": "x", "server/port": "3", "inner/port": "4",
	}))
	require.NoError(t, err)
	require.Equal(t, &config{
		Host: "default", Limits: map[string]int{"b": 2}, Names: []string{"x"},
		Server: &server{Host: "h", Port: 3}, Inner: server{Host: "i", Port: 4},
	}, got)
	// What the function shares was not written to.
	require.Equal(t, config{
		Host: "default", Limits: map[string]int{"a": 1}, Names: []string{"a", "b", "c"},
		Server: &server{Host: "h", Port: 1}, Inner: server{Host: "i", Port: 2},
	}, shared)

	got, err = b.try(stateOf(nil))
	require.NoError(t, err)
	require.Equal(t, "default", got.Host)
}

func TestNothingIsNoConfiguration(t *testing.T) {
	t.Parallel()
	_, err := builderOf[server](t, "/c/", false).try(stateOf(nil))
	require.ErrorIs(t, err, etcd.ErrKeyNotFound)
	for _, opts := range [][]Option{nil, {WithDefaults(func() server { return server{} })}} {
		_, err = builderOf[server](t, "/c/doc", true, opts...).try(stateOf(map[string]string{"document": "{}"}))
		require.ErrorIs(t, err, etcd.ErrKeyNotFound)
	}
}

func TestUndecodableValueRefusesTheConfiguration(t *testing.T) {
	t.Parallel()
	s := stateOf(map[string]string{"host": "h"})
	s.entries["/c/port"] = entry{err: &etcd.DecodeError{Key: "/c/port", Err: etcd.ErrDecrypt}}
	_, err := builderOf[server](t, "/c/", false).try(s)
	var d *etcd.DecodeError
	require.ErrorAs(t, err, &d)
	require.ErrorIs(t, err, etcd.ErrDecrypt)
	require.Equal(t, "/c/port", err.(*RejectedError).Key)
}

func TestBadDocumentsAreRefusedUnquoted(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"no JSON": secretValue, "empty": "", "list": `["` + secretValue + `"]`, "null": "null",
		"breaks off": `{"host": "` + secretValue, "two": `{}{"host": "` + secretValue + `"}`, "string": `"` + secretValue + `"`,
	} {
		_, err := builderOf[server](t, "/c/doc", true).try(stateOf(map[string]string{"doc": document}))
		require.ErrorIs(t, err, etcd.ErrEncoding, name)
		require.Equal(t, "/c/doc", err.(*RejectedError).Key, name)
		require.NotContains(t, err.Error(), secretValue, name)
	}
	own := errors.New("line 3: " + secretValue)
	b := builderOf[server](t, "/c/doc", true, WithUnmarshal(func([]byte) (map[string]any, error) { return nil, own }))
	_, err := b.try(stateOf(map[string]string{"doc": "x"}))
	require.ErrorIs(t, err, own)
	require.ErrorIs(t, err, etcd.ErrEncoding)
	require.NotContains(t, err.Error(), secretValue)
}

// What parsers other than JSON's make of a document.
func TestOtherParsersValuesFitOrAreRefused(t *testing.T) {
	t.Parallel()
	parsed := map[string]any{}
	b := builderOf[every](t, "/c/doc", true, WithUnmarshal(func([]byte) (map[string]any, error) { return parsed, nil }))
	s := stateOf(map[string]string{"doc": ""})
	at := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	parsed = map[string]any{
		"number": int64(-16), "unsigned_number": 200, "ratio": 2, "on": true, "from": at, "text": 17,
		"server": map[any]any{"host": "h", "port": uint64(80)}, "names": []string{"a"}, "limits": map[string]int{"a": 1},
		"bytes": []byte("b"), "ports": []any{1, 2.0}, "timeout": 0,
	}
	got, err := b.try(s)
	require.NoError(t, err)
	require.Equal(t, &every{
		Number: -16, Unsigned: 200, Ratio: 2, On: true, From: at, Text: "17", Server: server{Host: "h", Port: 80},
		Names: []string{"a"}, Limits: map[string]int{"a": 1}, Bytes: []byte("b"), Ports: []uint16{1, 2},
	}, got)
	for name, bad := range map[string]map[string]any{
		"large int":         {"number": 1 << 20},
		"negative unsigned": {"unsigned_number": -1},
		"large unsigned":    {"number": uint64(1 << 63)},
		"fraction":          {"number": 1.5},
		"huge float":        {"number": 1e300},
		"large float":       {"ratio": 1e300},
		"bool for number":   {"number": true},
		"number for bool":   {"on": 1},
		"bool for text":     {"text": true},
		"unitless duration": {"timeout": 5},
		"number for time":   {"from": 5},
		"scalar for list":   {"ports": 5},
		"map for list":      {"ports": map[string]any{}},
		"list for map":      {"limits": []any{}},
		"list for struct":   {"server": []any{}},
		"scalar for struct": {"server": 1},
		"map for text":      {"text": map[string]any{}},
		"number for link":   {"link": 1},
	} {
		parsed = bad
		_, err := b.try(s)
		require.ErrorIs(t, err, etcd.ErrEncoding, name)
	}
}

func TestDiffNamesFieldsAndNoValues(t *testing.T) {
	t.Parallel()
	shape, err := shapeOf(reflect.TypeFor[every]())
	require.NoError(t, err)
	a := func() *every {
		return &every{
			Number: 1, Limits: map[string]int{secretValue: 1}, Server: server{Host: "h"}, Other: &server{Port: 1},
			From: time.Unix(1, 0).UTC(), Big: big.NewInt(1), private: 1,
		}
	}
	require.Empty(t, differ(shape, a(), a()))
	b := a()
	b.Number, b.Limits[secretValue], b.Server.TLS, b.Other.Port = 2, 2, &struct{ Cert string }{"c"}, 2
	b.Name, b.Rest, b.private, b.Big = "n", map[string]any{"a": 1}, 2, big.NewInt(2)
	require.Equal(t, []string{"Big", "Limits", "Name", "Number", "Other.Port", "Rest", "Server.TLS"}, differ(shape, a(), b))
	b = a()
	b.Other = nil
	require.Equal(t, []string{"Other"}, differ(shape, a(), b))
}
