package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/blueprint-go/etcd/internal/errs"
)

// A host name can have several addresses, some of which don't answer. They are tried as
// in RFC 8305: each some time after the one before, or as soon as that has failed; the
// first that answers is used. Package net does so only for a pair of IPv6 and IPv4, and
// gives each address of a family a part of the time.

// nextAddressDelay is the Connection Attempt Delay of RFC 8305, section 5.
const nextAddressDelay = 250 * time.Millisecond

// addresses opens connections to host names. Safe for concurrent use.
type addresses struct {
	resolver *net.Resolver
	dial     func(ctx context.Context, network, address string) (net.Conn, error)

	mu sync.Mutex
	// bad holds the addresses that accepted a connection and then did not prove to be a
	// server. They are tried last for a while.
	bad map[string]time.Time
}

func newAddresses(resolver *net.Resolver) *addresses {
	return &addresses{resolver: resolver, dial: new(net.Dialer).DialContext, bad: make(map[string]time.Time)}
}

// open implements Params.Open.
func (a *addresses) open(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if network != "tcp" || err != nil || isLiteral(host) {
		return a.dial(ctx, network, address)
	}
	ips, err := a.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	var all []string
	for _, ip := range alternating(ips) {
		all = append(all, net.JoinHostPort(ip.Unmap().String(), port))
	}
	return a.race(ctx, network, a.badLast(all))
}

func isLiteral(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// alternating arranges addresses so that the families take turns, beginning with that of
// the first address.
func alternating(ips []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, ip := range ips {
		if ip.Unmap().Is4() == ips[0].Unmap().Is4() {
			first = append(first, ip)
		} else {
			second = append(second, ip)
		}
	}
	var all []netip.Addr
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			all = append(all, first[i])
		}
		if i < len(second) {
			all = append(all, second[i])
		}
	}
	return all
}

// attempted is the result for one address.
type attempted struct {
	conn net.Conn
	err  error
}

// race tries the addresses in turn and returns the first connection. It waits for all
// attempts, which end when it is found.
func (a *addresses) race(ctx context.Context, network string, all []string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan attempted, len(all))
	next := func(address string) {
		go func() { // ends with ctx; the loop below waits for it
			conn, err := a.dial(ctx, network, address)
			results <- attempted{conn, err}
		}()
	}
	var (
		won    net.Conn
		causes []error
	)
	timer := time.NewTimer(nextAddressDelay)
	defer timer.Stop()
	begun, ended := 0, 0
	for {
		if won == nil && begun < len(all) && begun == ended {
			next(all[begun])
			begun++
			timer.Reset(nextAddressDelay)
		}
		if begun == ended {
			break
		}
		select {
		case r := <-results:
			ended++
			switch {
			case r.err != nil:
				causes = append(causes, r.err)
			case won == nil:
				won = r.conn
				cancel()
			default:
				_ = r.conn.Close()
			}
		case <-timer.C:
			if won == nil && begun < len(all) {
				next(all[begun])
				begun++
				timer.Reset(nextAddressDelay)
			}
		}
	}
	cancel()
	if won != nil {
		return won, nil
	}
	if len(causes) == 0 {
		return nil, errors.New("the host name has no address")
	}
	return nil, errs.Join(causes)
}

// distrust records that a server at an address did not prove itself, and trust that one
// did.
func (a *addresses) distrust(addr net.Addr) {
	if a == nil || addr == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bad[addr.String()] = time.Now()
}

func (a *addresses) trust(addr net.Addr) {
	if a == nil || addr == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.bad, addr.String())
}

// badLast moves the addresses that failed lately to the end, the latest last.
func (a *addresses) badLast(all []string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for address, at := range a.bad {
		if time.Since(at) > failureLifetime {
			delete(a.bad, address)
		}
	}
	slices.SortStableFunc(all, func(x, y string) int { return a.bad[x].Compare(a.bad[y]) })
	return all
}
