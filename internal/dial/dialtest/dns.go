package dialtest

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Zone is what a DNS server on this machine knows; names end with a dot. Other names
// don't exist. A query for the name in Failing is answered with SERVFAIL.
type Zone struct {
	SRV     map[string][]net.SRV
	Addr    map[string][]netip.Addr
	Failing string
}

// Resolver returns a resolver that only asks z.
func (z Zone) Resolver(t testing.TB) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		query := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(z.answer(query[:n]), from)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		running.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// RFC 1035, sections 3.2.2 and 4.1; RFC 2782.
const (
	typeA, typeAAAA, typeSRV = 1, 28, 33
	serverFailure, noName    = 2, 3
)

func (z Zone) answer(query []byte) []byte {
	name, end := "", 12
	for query[end] != 0 {
		n := int(query[end])
		name += string(query[end+1:end+1+n]) + "."
		end += 1 + n
	}
	kind := binary.BigEndian.Uint16(query[end+1:])
	question := query[12 : end+5]
	var records [][]byte
	switch kind {
	case typeSRV:
		for _, r := range z.SRV[name] {
			data := binary.BigEndian.AppendUint16(nil, r.Priority)
			data = binary.BigEndian.AppendUint16(data, r.Weight)
			data = binary.BigEndian.AppendUint16(data, r.Port)
			records = append(records, append(data, labels(r.Target)...))
		}
	case typeA, typeAAAA:
		for _, ip := range z.Addr[name] {
			if ip.Is4() == (kind == typeA) {
				records = append(records, ip.AsSlice())
			}
		}
	}
	code := 0
	switch {
	case z.Failing == name:
		code = serverFailure
	case z.SRV[name] == nil && z.Addr[name] == nil:
		code = noName
	}
	out := append([]byte{}, query[:2]...)
	out = append(out, 0x84, byte(code), 0, 1, 0, byte(len(records)), 0, 0, 0, 0)
	out = append(out, question...)
	for _, r := range records {
		out = append(out, 0xc0, 12) // the name of the question
		out = binary.BigEndian.AppendUint16(out, kind)
		out = append(out, 0, 1, 0, 0, 0, 60)
		out = binary.BigEndian.AppendUint16(out, uint16(len(r)))
		out = append(out, r...)
	}
	return out
}

func labels(name string) []byte {
	var out []byte
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label != "" {
			out = append(append(out, byte(len(label))), label...)
		}
	}
	return append(out, 0)
}
