package etcd

import (
	"context"
	"time"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// pacer spreads what is sent over time. It belongs to one goroutine.
type pacer struct {
	rate  int       // keys a second; 0 means no limit
	ready time.Time // when the next keys may be sent
}

// wait waits until n further keys may be sent. It returns false if ctx or the client ends
// first.
func (p *pacer) wait(ctx context.Context, closing <-chan struct{}, n int) bool {
	if p.rate <= 0 {
		return true
	}
	if left := time.Until(p.ready); left > 0 && !rpc.Pause(ctx, closing, left) {
		return false
	}
	p.ready = time.Now().Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	return true
}
