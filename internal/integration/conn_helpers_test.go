package integration

import (
	"bytes"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// root returns a configuration for the user root.
func root(srv *etcdtest.Server) *etcd.Config { return config(srv).WithAuth("root", rootPassword) }

// reader may read and write what begins with /open/, and nothing else.
func reader() etcdtest.Option {
	return etcdtest.WithUser("reader", userPassword, etcdtest.Permission{Prefix: "/open/", Read: true, Write: true})
}

// succeed answers a request by an empty message.
func succeed(w *http2.Framer, stream uint32) error {
	head := func(fields ...hpack.HeaderField) []byte {
		var b bytes.Buffer
		encoder := hpack.NewEncoder(&b)
		for _, f := range fields {
			_ = encoder.WriteField(f) // to memory
		}
		return b.Bytes()
	}
	if err := w.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, EndHeaders: true,
		BlockFragment: head(hpack.HeaderField{Name: ":status", Value: "200"}, hpack.HeaderField{Name: "content-type", Value: "application/grpc"}),
	}); err != nil {
		return err
	}
	if err := w.WriteData(stream, false, make([]byte, 5)); err != nil {
		return err
	}
	return w.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, EndHeaders: true, EndStream: true,
		BlockFragment: head(hpack.HeaderField{Name: "grpc-status", Value: "0"}),
	})
}
