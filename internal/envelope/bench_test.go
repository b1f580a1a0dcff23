package envelope_test

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/blueprint-go/etcd/internal/envelope"
)

const benchPlace = "/services/billing/config/7"

var benchSizes = []struct {
	name  string
	bytes int
}{{"100B", 100}, {"1KiB", 1 << 10}, {"10KiB", 10 << 10}, {"1MiB", 1 << 20}}

// bareAEADs are the yardstick: AES-256-GCM of the standard library whose key is already expanded, given the same
// associated data ready made, with a random nonce for sealing and in place for opening, each in its fastest form.
func bareAEADs(b *testing.B) (sealer, opener cipher.AEAD) {
	b.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	if sealer, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		b.Fatal(err)
	}
	if opener, err = cipher.NewGCM(block); err != nil {
		b.Fatal(err)
	}
	return sealer, opener
}

// BenchmarkSeal and BenchmarkOpen report the time of each beside that of the bare AEAD, in the same run and by turns,
// and the ratio of the two:
//
//	go test ./internal/envelope -run '^$' -bench 'Seal|Open' -benchtime 2s
func BenchmarkSeal(b *testing.B) {
	sealer, _ := bareAEADs(b)
	c := envelope.NewCodec(envelope.Params{})
	for _, suite := range []envelope.Suite{envelope.XAES256GCM, envelope.AES256GCM} {
		k := newKey(b, readmeKey).WithSuite(suite)
		for _, size := range benchSizes {
			b.Run(suite.String()+"/"+size.name, func(b *testing.B) {
				value := dense(size.bytes)
				stored, err := c.Seal(bg, k, benchPlace, value)
				if err != nil {
					b.Fatal(err)
				}
				ad := c.AssociatedData(stored[:24], benchPlace)
				byTurns(b, size.bytes, func(int) {
					sealer.Seal(nil, nil, value, ad)
				}, func(int) {
					if _, err := c.Seal(bg, k, benchPlace, value); err != nil {
						b.Fatal(err)
					}
				}, func() {})
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	_, opener := bareAEADs(b)
	c := envelope.NewCodec(envelope.Params{})
	for _, suite := range []envelope.Suite{envelope.XAES256GCM, envelope.AES256GCM} {
		k := newKey(b, readmeKey).WithSuite(suite)
		r := newRing(b, k)
		for _, size := range benchSizes {
			b.Run(suite.String()+"/"+size.name, func(b *testing.B) {
				stored, err := c.Seal(bg, k, benchPlace, dense(size.bytes))
				if err != nil {
					b.Fatal(err)
				}
				ad := c.AssociatedData(stored[:24], benchPlace)
				nonce := make([]byte, 12)
				sealed := opener.Seal(nil, nonce, dense(size.bytes), ad)
				bare, ours := copies(sealed, batch(size.bytes)), copies(stored, batch(size.bytes))
				byTurns(b, size.bytes, func(i int) {
					if _, err := opener.Open(bare[i][:0], nonce, bare[i], ad); err != nil {
						b.Fatal(err)
					}
				}, func(i int) {
					if _, err := c.Open(bg, r, benchPlace, ours[i], nil); err != nil {
						b.Fatal(err)
					}
				}, func() { // both decrypt in place: what was opened must be sealed again
					for i := range bare {
						copy(bare[i], sealed)
						copy(ours[i], stored)
					}
				})
			})
		}
	}
}

// batch is how many messages are worked on at a turn: enough for the clock, few enough for the cache.
func batch(size int) int { return max(2, min(256, 1<<18/size)) }

func copies(of []byte, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = slices.Clone(of)
	}
	return all
}

// byTurns runs batches of bare and ours alternately, so that what else the machine does hits both, and reports the
// median batch of each.
func byTurns(b *testing.B, size int, bare, ours func(int), prepare func()) {
	n := batch(size)
	turn := func(f func(int)) time.Duration {
		start := time.Now()
		for i := range n {
			f(i)
		}
		return time.Since(start)
	}
	var bares, our []time.Duration
	for i := 0; b.Loop(); i++ {
		prepare()
		if i%2 == 0 {
			bares, our = append(bares, turn(bare)), append(our, turn(ours))
		} else {
			our, bares = append(our, turn(ours)), append(bares, turn(bare))
		}
	}
	each := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2]) / float64(n)
	}
	b.ReportMetric(0, "ns/op") // of two batches together: says nothing
	b.ReportMetric(each(bares), "bare-ns")
	b.ReportMetric(each(our), "envelope-ns")
	b.ReportMetric(each(our)/each(bares), "ratio")
}

// BenchmarkParallel is the hot path as many goroutines share it: one key, one ring, one codec.
func BenchmarkParallel(b *testing.B) {
	c := envelope.NewCodec(envelope.Params{})
	k := newKey(b, readmeKey)
	r := newRing(b, k)
	value := dense(1 << 10)
	b.ReportAllocs()
	b.SetBytes(1 << 10)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			stored, err := c.Seal(bg, k, benchPlace, value)
			if err == nil {
				_, err = c.Open(bg, r, benchPlace, stored, nil)
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkCompressed is a round trip of a value that compresses well.
func BenchmarkCompressed(b *testing.B) {
	c := envelope.NewCodec(envelope.Params{CompressMin: 1024})
	k := newKey(b, readmeKey)
	r := newRing(b, k)
	for _, size := range benchSizes[1:] {
		value := []byte(nil)
		for i := 0; len(value) < size.bytes; i++ {
			value = fmt.Appendf(value, `{"id":%d,"host":"node-%d.example","weight":%d},`, i, i*7919%1000, i*31%97)
		}
		b.Run(size.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(value)))
			for b.Loop() {
				stored, err := c.Seal(bg, k, benchPlace, value)
				if err != nil {
					b.Fatal(err)
				}
				if _, err = c.Open(bg, r, benchPlace, stored, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
