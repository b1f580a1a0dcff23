package dial

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// closing is a connection that notes its end.
type closing struct {
	net.Conn
	closed *atomic.Int64
}

func (c closing) Close() error {
	c.closed.Add(1)
	return nil
}

func TestSilentAddressHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	silent := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var closed atomic.Int64
	good := func(context.Context) (net.Conn, error) { return closing{nil, &closed}, nil }
	refused := func(context.Context) (net.Conn, error) { return nil, errScripted }
	// It doesn't listen to ctx, and connects when another one has won.
	late := func(context.Context) (net.Conn, error) {
		<-time.After(2 * nextAddressDelay)
		return closing{nil, &closed}, nil
	}
	for name, tc := range map[string]struct {
		addresses []func(context.Context) (net.Conn, error)
		took      time.Duration
		closed    int64 // of connections that nobody needs
		err       error
	}{
		"the first is good":      {[]func(context.Context) (net.Conn, error){good, silent}, 0, 0, nil},
		"the second is good":     {[]func(context.Context) (net.Conn, error){silent, good}, nextAddressDelay, 0, nil},
		"the third is good":      {[]func(context.Context) (net.Conn, error){silent, silent, good}, 2 * nextAddressDelay, 0, nil},
		"a refusal takes none":   {[]func(context.Context) (net.Conn, error){refused, refused, good}, 0, 0, nil},
		"a late one is closed":   {[]func(context.Context) (net.Conn, error){late, good}, 2 * nextAddressDelay, 1, nil},
		"all refuse":             {[]func(context.Context) (net.Conn, error){refused, refused}, 0, 0, errScripted},
		"all are silent":         {[]func(context.Context) (net.Conn, error){silent, silent}, 4 * time.Second, 0, context.DeadlineExceeded},
		"there is none":          {nil, 0, 0, nil},
		"one refuses, one hangs": {[]func(context.Context) (net.Conn, error){refused, silent}, 4 * time.Second, 0, errScripted},
	} {
		synctest.Test(t, func(t *testing.T) {
			closed.Store(0)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			a := newAddresses(nil)
			names := make([]string, len(tc.addresses))
			byName := map[string]func(context.Context) (net.Conn, error){}
			for i, f := range tc.addresses {
				names[i] = string(rune('a' + i))
				byName[names[i]] = f
			}
			a.dial = func(ctx context.Context, _, address string) (net.Conn, error) { return byName[address](ctx) }
			began := time.Now()
			conn, err := a.race(ctx, "tcp", names)
			assert.Equal(t, tc.took, time.Since(began), name)
			assert.Equal(t, tc.closed, closed.Load(), name)
			switch {
			case tc.err != nil:
				assert.ErrorIs(t, err, tc.err, name)
			case tc.addresses == nil:
				assert.Error(t, err, name)
			default:
				require.NoError(t, err, name)
				assert.NotNil(t, conn, name)
			}
		})
	}
}

func TestFamiliesOfAddressesTakeTurns(t *testing.T) {
	t.Parallel()
	ip := netip.MustParseAddr
	assert.Equal(t,
		[]netip.Addr{ip("::1"), ip("127.0.0.1"), ip("::2"), ip("127.0.0.2"), ip("::3")},
		alternating([]netip.Addr{ip("::1"), ip("::2"), ip("::3"), ip("127.0.0.1"), ip("127.0.0.2")}))
	assert.Empty(t, alternating(nil))
}
