package export_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/export"
)

// sample is a file with everything in it that there is, letter for letter.
const sample = `{"format":"etcd-export","version":1,"form":"decrypted","prefix":"/a","revision":9}
{"key":"/a","value":"","create_revision":1,"mod_revision":1,"version":1}
{"key":"/a/1","value":"a\tb\n\"c\" \\ ü 😀 ` + "\u2028\x7f" + ` </>","create_revision":2,"mod_revision":9,"version":3}
{"key":"/a/2","value64":"/wA=","create_revision":3,"mod_revision":3,"version":1,"lease":"000000000000002a","lease_ttl":60}
{"key":"/a/3","stored64":"/2VjdgE=","create_revision":3,"mod_revision":3,"version":1,"lease":"8000000000000000"}
{"key64":"L2H/","value64":"AQ==","create_revision":4,"mod_revision":4,"version":1,"lease":"7fffffffffffffff","lease_ttl":0}
`

var entries = []export.Entry{
	{Key: "/a", Value: []byte{}, CreateRevision: 1, ModRevision: 1, Version: 1, LeaseTTL: export.NoTTL},
	{Key: "/a/1", Value: []byte("a\tb\n\"c\" \\ ü 😀 \u2028\x7f </>"), CreateRevision: 2, ModRevision: 9, Version: 3, LeaseTTL: export.NoTTL},
	{Key: "/a/2", Value: []byte("\xff\x00"), CreateRevision: 3, ModRevision: 3, Version: 1, Lease: 42, LeaseTTL: 60},
	{Key: "/a/3", Value: []byte("\xffecv\x01"), Stored: true, CreateRevision: 3, ModRevision: 3, Version: 1, Lease: math.MinInt64, LeaseTTL: export.NoTTL},
	{Key: "/a\xff", Value: []byte{1}, CreateRevision: 4, ModRevision: 4, Version: 1, Lease: math.MaxInt64, LeaseTTL: 0},
}

// sealed adds the last line to a file without it.
func sealed(lines string) string {
	return fmt.Sprintf("%s{\"count\":%d,\"sha256\":\"%x\"}\n", lines, max(0, strings.Count(lines, "\n")-1), sha256.Sum256([]byte(lines)))
}

// write returns a file.
func write(t testing.TB, h export.Header, entries ...export.Entry) string {
	t.Helper()
	var out bytes.Buffer
	w, err := export.NewWriter(&out, h)
	require.NoError(t, err)
	for _, e := range entries {
		require.NoError(t, w.Write(e))
	}
	require.NoError(t, w.Close())
	return out.String()
}

// read returns what a file holds.
func read(in io.Reader) (h export.Header, all []export.Entry, err error) {
	r, err := export.NewReader(in)
	if err != nil {
		return h, nil, err
	}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Header(), all, nil
		}
		if err != nil {
			return r.Header(), all, err
		}
		all = append(all, e)
	}
}

func TestFileIsWrittenAsTheFormatSays(t *testing.T) {
	t.Parallel()
	h := export.Header{Prefix: "/a", Revision: 9}
	require.Equal(t, sealed(sample), write(t, h, entries...))
	got, all, err := read(strings.NewReader(sealed(sample)))
	require.NoError(t, err)
	require.Equal(t, h, got)
	require.Equal(t, entries, all)

	h = export.Header{Stored: true, Namespace: "\xff", Prefix: "", Revision: 1}
	file := write(t, h)
	require.True(t, strings.HasPrefix(file, `{"format":"etcd-export","version":1,"form":"stored","namespace64":"/w==","prefix":"","revision":1}`+"\n"))
	got, all, err = read(iotest.OneByteReader(strings.NewReader(file)))
	require.NoError(t, err)
	require.Equal(t, h, got)
	require.Empty(t, all)
}

func TestCutFileIsRefusedWhereverItIsCut(t *testing.T) {
	t.Parallel()
	file := write(t, export.Header{Prefix: "/a", Revision: 9}, entries...)
	for n := range len(file) {
		_, _, err := read(strings.NewReader(file[:n]))
		require.ErrorIs(t, err, export.ErrBad, "cut at %d", n)
	}
}

func TestChangedFileIsRefusedWhereverItIsChanged(t *testing.T) {
	t.Parallel()
	file := []byte(write(t, export.Header{Prefix: "/a", Revision: 9}, entries...))
	for i := range file {
		for bit := range 8 {
			file[i] ^= 1 << bit
			_, _, err := read(bytes.NewReader(file))
			require.ErrorIs(t, err, export.ErrBad, "bit %d of byte %d", bit, i)
			file[i] ^= 1 << bit
		}
		_, _, err := read(io.MultiReader(bytes.NewReader(file[:i]), bytes.NewReader(file[i+1:])))
		require.ErrorIs(t, err, export.ErrBad, "without byte %d", i)
		_, _, err = read(io.MultiReader(bytes.NewReader(file[:i+1]), bytes.NewReader(file[i:])))
		require.ErrorIs(t, err, export.ErrBad, "byte %d twice", i)
	}
}

// What a checksum can't show: that whoever made the file didn't keep to the format.
func TestChecksummedFileThatBreaksTheFormatIsRefused(t *testing.T) {
	t.Parallel()
	const (
		head = `{"format":"etcd-export","version":1,"form":"decrypted","prefix":"/a","revision":9}`
		tail = `,"create_revision":1,"mod_revision":1,"version":1`
	)
	entry := func(s string) string { return head + "\n{" + s + "}\n" }
	for name, lines := range map[string]string{
		"empty":                   "",
		"no lines":                "\n",
		"another format":          `{"format":"other","version":1}` + "\n",
		"an array":                "[]\n",
		"a later version":         strings.Replace(head, `"version":1`, `"version":2,"new":true`, 1) + "\n",
		"an unknown form":         strings.Replace(head, "decrypted", "encrypted", 1) + "\n",
		"a namespace":             strings.Replace(head, `"prefix"`, `"namespace":"n","prefix"`, 1) + "\n",
		"no prefix":               `{"format":"etcd-export","version":1,"form":"decrypted","revision":9}` + "\n",
		"revision 0":              strings.Replace(head, "9", "0", 1) + "\n",
		"revision of a fraction":  strings.Replace(head, "9", "9.0", 1) + "\n",
		"space in the head":       strings.Replace(head, ",", ", ", 1) + "\n",
		"carriage return":         head + "\r\n",
		"two heads":               head + "\n" + head + "\n",
		"empty line":              head + "\n\n",
		"not JSON":                entry(`"key"`),
		"not an object":           head + "\n" + `["/a"]` + "\n",
		"two objects":             entry(`"key":"/a","value":""` + tail + `}{`),
		"an unknown member":       entry(`"key":"/a","value":""` + tail + `,"more":1`),
		"a repeated member":       entry(`"key":"/a","value":"x","value":""` + tail),
		"a member in capitals":    entry(`"KEY":"/a","value":""` + tail),
		"members out of order":    entry(`"value":"","key":"/a"` + tail),
		"both kinds of key":       entry(`"key":"/a","key64":"L2E=","value":""` + tail),
		"no key":                  entry(`"value":""` + tail),
		"an empty key":            entry(`"key":"","value":""` + tail),
		"no value":                entry(`"key":"/a"` + tail),
		"value null":              entry(`"key":"/a","value":null` + tail),
		"value and stored":        entry(`"key":"/a","value":"","stored":""` + tail),
		"text as Base64":          entry(`"key":"/a","value64":"eA=="` + tail),
		"Base64 for URLs":         entry(`"key":"/a","value64":"_w=="` + tail),
		"Base64 with bits over":   entry(`"key":"/a","value64":"/x=="` + tail),
		"Base64 without padding":  entry(`"key":"/a","value64":"/w"` + tail),
		"an escape too many":      entry(`"key":"/a","value":"\u0041"` + tail),
		"an escaped slash":        entry(`"key":"\/a","value":""` + tail),
		"half a character":        entry(`"key":"/a","value":"\ud800"` + tail),
		"invalid UTF-8":           entry("\"key\":\"/a\",\"value\":\"\xff\"" + tail),
		"a raw control character": entry("\"key\":\"/a\",\"value\":\"\x01\"" + tail),
		"a control character":     entry(`"key":"/a","value":"\u0001"` + tail),
		"another prefix":          entry(`"key":"/b","value":""` + tail),
		"no revision":             entry(`"key":"/a","value":"","mod_revision":1,"version":1`),
		"a number as a string":    entry(`"key":"/a","value":"","create_revision":"1","mod_revision":1,"version":1`),
		"a large number":          entry(`"key":"/a","value":"","create_revision":1,"mod_revision":1,"version":9223372036854775808`),
		"create revision 0":       entry(`"key":"/a","value":"","create_revision":0,"mod_revision":1,"version":1`),
		"modified before created": entry(`"key":"/a","value":"","create_revision":2,"mod_revision":1,"version":1`),
		"modified after the head": entry(`"key":"/a","value":"","create_revision":1,"mod_revision":10,"version":1`),
		"version 0":               entry(`"key":"/a","value":"","create_revision":1,"mod_revision":1,"version":0`),
		"lease 0":                 entry(`"key":"/a","value":""` + tail + `,"lease":"0000000000000000"`),
		"a short lease":           entry(`"key":"/a","value":""` + tail + `,"lease":"2a"`),
		"a lease in capitals":     entry(`"key":"/a","value":""` + tail + `,"lease":"000000000000002A"`),
		"no number as a lease":    entry(`"key":"/a","value":""` + tail + `,"lease":"x"`),
		"a time without a lease":  entry(`"key":"/a","value":""` + tail + `,"lease_ttl":60`),
		"a negative time":         entry(`"key":"/a","value":""` + tail + `,"lease":"000000000000002a","lease_ttl":-1`),
		"a very negative time":    entry(`"key":"/a","value":""` + tail + `,"lease":"000000000000002a","lease_ttl":-2`),
		"an endless time":         entry(`"key":"/a","value":""` + tail + `,"lease":"000000000000002a","lease_ttl":9000000001`),
		"a key twice":             entry(`"key":"/a","value":""`+tail) + `{"key":"/a","value":""` + tail + "}\n",
		"keys out of order":       entry(`"key":"/a2","value":""`+tail) + `{"key":"/a1","value":""` + tail + "}\n",
		"a value in stored form": `{"format":"etcd-export","version":1,"form":"stored","namespace":"","prefix":"/a","revision":9}` + "\n" +
			`{"key":"/a","value":""` + tail + "}\n",
	} {
		_, _, err := read(strings.NewReader(sealed(lines)))
		require.ErrorIs(t, err, export.ErrBad, name)
		require.NotContains(t, err.Error(), "/a", name)
	}
	good := entry(`"key":"/a","value":"x"` + tail)
	for name, file := range map[string]string{
		"more behind it":   sealed(good) + "\n",
		"two files":        sealed(good) + sealed(good),
		"a wrong count":    strings.Replace(sealed(good), `"count":1`, `"count":2`, 1),
		"sum in capitals":  strings.ToUpper(sealed(good)),
		"sum of an entry":  good + `{"count":1,"sha256":""}` + "\n",
		"sum of another":   good + sealed(entry(`"key":"/a","value":"y"` + tail))[len(good):],
		"space at the end": strings.ReplaceAll(sealed(good), "}\n", " }\n"),
	} {
		_, _, err := read(strings.NewReader(file))
		require.ErrorIs(t, err, export.ErrBad, name)
	}
	_, all, err := read(strings.NewReader(sealed(good)))
	require.NoError(t, err)
	require.Len(t, all, 1, "the others are refused for what was changed in them")
}

func TestOverlongLineIsRefusedAndNotKept(t *testing.T) {
	t.Parallel()
	h := export.Header{Prefix: "", Revision: 1}
	w, err := export.NewWriter(io.Discard, h)
	require.NoError(t, err)
	require.ErrorContains(t, w.Write(export.Entry{Key: "k", Value: make([]byte, export.MaxLine)}), "limit")

	_, _, err = read(zeros{})
	require.ErrorIs(t, err, export.ErrBad)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

var errBroken = errors.New("broken")

func TestInputAndOutputErrorsArePassedOn(t *testing.T) {
	t.Parallel()
	h := export.Header{Prefix: "/a", Revision: 9}
	file := write(t, h, entries...)
	for n := range len(file) + 1 {
		_, _, err := read(io.MultiReader(strings.NewReader(file[:n]), iotest.ErrReader(errBroken)))
		require.ErrorIs(t, err, errBroken, "after %d", n)
		require.NotErrorIs(t, err, export.ErrBad, "after %d", n)
	}
	for n := range len(file) {
		err := func() error {
			w, err := export.NewWriter(&narrow{n}, h)
			for _, e := range entries {
				if err == nil {
					err = w.Write(e)
				}
			}
			if err == nil {
				err = w.Close()
			}
			return err
		}()
		require.ErrorIs(t, err, errBroken, "room for %d", n)
	}
}

// narrow is a writer with room for n bytes.
type narrow struct{ n int }

func (w *narrow) Write(b []byte) (int, error) {
	if len(b) > w.n {
		n := w.n
		w.n = 0
		return n, errBroken
	}
	w.n -= len(b)
	return len(b), nil
}
