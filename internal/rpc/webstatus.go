package rpc

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/blueprint-go/etcd/internal/errs"
)

// web is the status of an HTTP answer that came in the place of a gRPC one: a
// proxy's, or that of a web server.
type web int

// webStatus finds the HTTP status in gRPC's message about such an answer, which
// also quotes the beginning of the page (google.golang.org/grpc/internal/transport,
// http2Client.operateHeaders). A status of 200 is told in the same way.
func webStatus(msg string) (web, bool) {
	rest, ok := strings.CutPrefix(msg, "unexpected HTTP status code received from server: ")
	if !ok {
		return 0, false
	}
	digits, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(digits)
	return web(n), err == nil
}

// IsWeb reports whether gRPC's message is about an answer of the web, and not of gRPC.
func IsWeb(msg string) bool {
	_, is := webStatus(msg)
	return is
}

// verdict returns what an HTTP status means. What a proxy says of itself or of
// the servers behind it may pass; anything else doesn't come from etcd at all. It
// never proves that a request was not applied.
func (w web) verdict() Verdict {
	switch w {
	case http.StatusRequestEntityTooLarge:
		return Verdict{Kind: errs.ErrTooLarge}
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return Verdict{Kind: errs.ErrUnavailable, Remedy: RetryRead, avoid: true}
	}
	return Verdict{Kind: errs.ErrNotEtcd, Remedy: RetryElsewhere}
}

// String says what was answered, on one line and without the page.
func (w web) String() string {
	text := fmt.Sprintf("HTTP status %d", int(w))
	if name := http.StatusText(int(w)); name != "" {
		text += " (" + name + ")"
	}
	text += " instead of an answer of etcd"
	if w == http.StatusRequestEntityTooLarge {
		text += "; a proxy has a lower limit for requests (nginx: client_max_body_size)"
	}
	return text
}

// maxForeignText bounds what an error repeats of words that aren't etcd's.
const maxForeignText = 200

// firstLine returns the first line of a text that isn't etcd's, without what
// could disturb a log.
func firstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	if len(text) > maxForeignText {
		text = strings.ToValidUTF8(text[:maxForeignText], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}
