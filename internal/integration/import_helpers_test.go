package integration

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// exported returns the file of an export that succeeds.
func exported(t testing.TB, c *etcd.Client, prefix string, opts ...etcd.ExportOption) string {
	t.Helper()
	var out bytes.Buffer
	report, err := c.Export(t.Context(), &out, prefix, opts...)
	require.NoError(t, err)
	require.EqualValues(t, strings.Count(out.String(), "\n")-2, report.Keys)
	return out.String()
}

// anything returns n key-values under p of which keys and values are any bytes.
func anything(p string, n int) map[string][]byte {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	pieces := []string{"a", "/", "\x00", "\xff", "\"", "\\", "\n", "é", "\u2028", "\ud7ff", "😀", "\xed\xa0\x80", "\xffecv", "</", "\x1f", "\x7f"}
	some := func(most int) string {
		var b strings.Builder
		for range random.IntN(most) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		return b.String()
	}
	kvs := map[string][]byte{}
	for range n {
		kvs[p+"k"+some(8)] = []byte(strings.Repeat(some(20), 1+random.IntN(3)*100))
	}
	return kvs
}

// failing is a writer and a reader that fails.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// stream hides that a file can seek.
func stream(file string) io.Reader { return io.MultiReader(strings.NewReader(file)) }
