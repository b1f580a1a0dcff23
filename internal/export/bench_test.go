package export_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/blueprint-go/etcd/internal/export"
)

// benchmarked are values of 200 bytes: text with something to escape, and what an
// encrypted value looks like.
var benchmarked = map[string][]byte{
	"text":   []byte(strings.Repeat(`{"name": "value"},`+"\n\t", 10)),
	"binary": []byte(strings.Repeat("\xff\x00\x80\x01", 50)),
}

func BenchmarkWrite(b *testing.B) {
	for name, value := range benchmarked {
		b.Run(name, func(b *testing.B) {
			w, err := export.NewWriter(io.Discard, export.Header{Revision: 1})
			if err != nil {
				b.Fatal(err)
			}
			e := export.Entry{Key: "/users/00001", Value: value, CreateRevision: 1, ModRevision: 1, Version: 1}
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Write(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for name, value := range benchmarked {
		b.Run(name, func(b *testing.B) {
			in, out := io.Pipe()
			defer in.Close()
			go func() {
				w, err := export.NewWriter(out, export.Header{Revision: 1})
				for i := 0; err == nil; i++ {
					e := export.Entry{Key: fmt.Sprintf("%016d", i), Value: value, CreateRevision: 1, ModRevision: 1, Version: 1}
					err = w.Write(e)
				}
			}()
			r, err := export.NewReader(in)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
