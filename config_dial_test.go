package etcd_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/dial/dialtest"
)

// The secrets that a client would send are held back until TLS stands.
func TestPasswordIsSentOverTLSOnlyIfTLSIsConfigured(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	file := a.File()
	for name, answer := range map[string]func(net.Conn){
		"server without TLS":          dialtest.WaitThenClose,
		"server that hangs up":        func(net.Conn) {},
		"server that answers in text": dialtest.Say("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"server that speaks first": func(conn net.Conn) {
			_, _ = conn.Write([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
			dialtest.WaitThenClose(conn)
		},
		"unknown authority": dialtest.HandshakeThenClose(dialtest.ServerTLS(dialtest.NewAuthority(t).Issue())),
		"good server":       dialtest.HandshakeThenClose(dialtest.ServerTLS(a.Issue())),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := &dialtest.Recording{Listener: dialtest.Listen(t)}
			address := dialtest.Serve(t, heard, answer)
			_, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(address).WithDialTimeout(time.Second).
				WithTLS("", "", file, false).WithAuth("alice", secretPassword))
			require.Error(t, err)
			for _, text := range heard.All() {
				assert.NotContains(t, text, "PRI * HTTP/2.0")
				assert.NotContains(t, text, secretPassword)
			}
		})
	}
}
