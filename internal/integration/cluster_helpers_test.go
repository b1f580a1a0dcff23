package integration

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// clusterSize is the smallest at which the loss of a member is survived.
const clusterSize = 3

// cluster is an etcd cluster whose members are processes of their own, so that
// they can be killed and stopped. Clients come to each by a proxy, and members to
// each other by gates.
type cluster struct {
	t       testing.TB
	members []*peer
	gates   map[[2]int]*gate // by the numbers of who calls and who is called
	direct  *clientv3.Client // goes by no proxy
}

// peer is a member of a cluster. What is done to it is done by one goroutine at a
// time.
type peer struct {
	cluster *cluster
	number  int
	dir     string // its working directory, with its data and sockets
	addr    string // where it serves clients
	proxy   *etcdtest.Proxy
	program string // an etcd server; empty for the one in this program

	cmd    *exec.Cmd // nil while it is dead
	stdin  io.Closer
	ready  chan struct{} // closed when it serves clients
	ended  chan struct{} // closed when its output has ended
	paused bool
}

// newCluster starts a cluster for one test.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	return newClusterOf(t, "")
}

// newClusterOf starts a cluster whose members are an etcd server of another version.
func newClusterOf(t testing.TB, program string) *cluster {
	t.Helper()
	base, err := os.MkdirTemp("", "etcdcluster")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(base)) })
	c := &cluster{t: t, gates: map[[2]int]*gate{}}
	for i := range clusterSize {
		// Kept for the member also while it isn't there: another test's proxy on its port
		// would lead clients here once that refuses connections.
		p := &peer{cluster: c, number: i, dir: filepath.Join(base, strconv.Itoa(i)), addr: etcdtest.ClosedPort(t), program: program}
		require.NoError(t, os.Mkdir(p.dir, 0o700))
		p.proxy = etcdtest.NewProxy(t, p.addr)
		c.members = append(c.members, p)
	}
	for _, from := range c.members {
		for _, to := range c.members {
			c.gates[[2]int{from.number, to.number}] = newGate(t,
				filepath.Join(from.dir, peerSocket(to.number)), filepath.Join(to.dir, ownSocket))
		}
	}
	c.direct, err = clientv3.New(clientv3.Config{Endpoints: c.addrs(), Logger: zap.NewNop()})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.direct.Close()) })
	t.Cleanup(func() {
		for _, p := range c.members {
			p.kill()
		}
	})
	c.heal()
	c.waitReady()
	return c
}

func (c *cluster) addrs() []string {
	var all []string
	for _, p := range c.members {
		all = append(all, p.addr)
	}
	return all
}

// config returns the configuration of a client that goes by the proxies.
func (c *cluster) config() *etcd.Config {
	var endpoints []string
	for _, p := range c.members {
		endpoints = append(endpoints, p.proxy.Endpoint())
	}
	return etcd.DefaultConfig().WithEndpoints(endpoints...)
}

// heal ends everything that was done to the cluster. It doesn't wait for the
// effect.
func (c *cluster) heal() {
	for _, g := range c.gates {
		g.open()
	}
	for _, p := range c.members {
		p.proxy.Heal()
		p.resume()
		p.start()
	}
}

// waitReady waits until each member serves clients, for the first time since it
// was started.
func (c *cluster) waitReady() {
	c.t.Helper()
	for _, p := range c.members {
		select {
		case <-p.ready:
		case <-p.ended:
			require.Fail(c.t, "a member has ended")
		case <-time.After(busyTimeout):
			require.Fail(c.t, "a member doesn't get ready")
		}
	}
}

// isolate cuts p off from the other members, in both directions.
func (c *cluster) isolate(p *peer) {
	for between, g := range c.gates {
		if between[0] == p.number || between[1] == p.number {
			g.shut()
		}
	}
}

// leader waits until a member leads and most others follow it.
func (c *cluster) leader() *peer {
	c.t.Helper()
	var leader *peer
	require.Eventually(c.t, func() bool {
		leader = c.findLeader()
		return leader != nil
	}, busyTimeout, 10*time.Millisecond, "no leader")
	return leader
}

func (c *cluster) findLeader() *peer {
	followers := map[uint64]int{}
	ids := map[uint64]*peer{}
	for _, p := range c.members {
		if p.cmd == nil || p.paused {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		status, err := c.direct.Status(ctx, p.addr)
		cancel()
		if err == nil {
			ids[status.Header.MemberId] = p
			followers[status.Leader]++ // the leader is one of its own
		}
	}
	for id, n := range followers {
		if n > clusterSize/2 && ids[id] != nil {
			return ids[id]
		}
	}
	return nil
}

// after returns the member that is n places after p.
func (c *cluster) after(p *peer, n int) *peer { return c.members[(p.number+n)%clusterSize] }

// start starts a dead member with the data that it has.
func (p *peer) start() {
	p.cluster.t.Helper()
	if p.cmd != nil {
		return
	}
	cmd := p.command()
	cmd.Dir = p.dir
	// A process that is stopped when this one ends is then continued by the
	// system, if it has a process group of its own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	require.NoError(p.cluster.t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(p.cluster.t, err)
	require.NoError(p.cluster.t, cmd.Start())
	ready, ended := make(chan struct{}), make(chan struct{})
	isReady := func(line string) bool { return strings.Contains(line, "ready") }
	if p.program != "" {
		isReady = func(line string) bool { return strings.Contains(line, "ready to serve client requests") }
	}
	go func() {
		defer close(ended)
		lines, told := bufio.NewScanner(stdout), false
		for lines.Scan() {
			if !told && isReady(lines.Text()) {
				close(ready)
				told = true
			}
		}
		_, _ = io.Copy(io.Discard, stdout) // after a line that was too long
	}()
	p.cmd, p.stdin, p.ready, p.ended = cmd, stdin, ready, ended
}

// command returns the process of a member: this program, or another server.
func (p *peer) command() *exec.Cmd {
	p.cluster.t.Helper()
	if p.program != "" {
		return exec.Command(p.program, memberFlags(p.number, p.addr)...)
	}
	return thisProgram(p.cluster.t, memberVariable+"="+strconv.Itoa(p.number), memberAddrVariable+"="+p.addr)
}

// kill ends a member at once, whatever it is doing.
func (p *peer) kill() {
	if p.cmd == nil {
		return
	}
	select {
	case <-p.ended:
		assert.Fail(p.cluster.t, "a member has ended by itself", "number %d, see its standard error", p.number)
	default:
		assert.NoError(p.cluster.t, p.cmd.Process.Kill())
		<-p.ended
	}
	_ = p.cmd.Wait() // tells that it was killed
	_ = p.stdin.Close()
	p.cmd, p.paused = nil, false
}

// pause stops a member as it stands; its connections stay.
func (p *peer) pause() {
	if p.cmd != nil && !p.paused {
		assert.NoError(p.cluster.t, p.cmd.Process.Signal(syscall.SIGSTOP))
		p.paused = true
	}
}

// resume lets a member go on that was paused.
func (p *peer) resume() {
	if p.paused {
		assert.NoError(p.cluster.t, p.cmd.Process.Signal(syscall.SIGCONT))
		p.paused = false
	}
}

// late is how much later than its deadline a call may return.
const late = 100 * time.Millisecond

func get(c *etcd.Client, key string, opts ...etcd.GetOption) func(ctx context.Context) error {
	return func(ctx context.Context) error { return second(c.Get(ctx, key, opts...)) }
}

func put(c *etcd.Client, key string) func(ctx context.Context) error {
	return func(ctx context.Context) error { return c.Put(ctx, key, nil) }
}

// givenUp is when a connection is given up on which nothing comes back.
const givenUp = etcd.DefaultKeepAliveInterval + etcd.DefaultKeepAliveTimeout

// beforeGivenUp is the time of a call that must not wait for that, on a busy machine.
const beforeGivenUp = 10 * time.Second

// requireEnds holds that a call fails at its deadline, as one that may be tried
// again, and returns its error.
func requireEnds(t *testing.T, call func(ctx context.Context) error) error {
	t.Helper()
	const timeout = time.Second
	pace, began := keepPace(t), time.Now()
	err := call(within(t, timeout))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, etcd.ErrTimeout)
	require.True(t, etcd.IsRetryable(err))
	require.Less(t, time.Since(began), pace.allow(timeout+late))
	return err
}

// requireBack waits until calls succeed again, each with a short deadline, and
// returns how long that took.
func requireBack(t *testing.T, call func(ctx context.Context) error) time.Duration {
	t.Helper()
	began := time.Now()
	require.Eventually(t, func() bool { return call(within(t, 200*time.Millisecond)) == nil }, busyTimeout, time.Millisecond)
	return time.Since(began)
}

// endpointFault befalls each way to a cluster for a time.
type endpointFault struct {
	name  string
	begin func(p *peer)
	lasts time.Duration
}

// requireBackSoon holds that calls succeed soon after each fault.
func requireBackSoon(t *testing.T, faults []endpointFault) {
	t.Helper()
	cluster := newCluster(t)
	key := prefix(t)
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			c := client(t, cluster.config())
			require.NoError(t, c.Put(t.Context(), key, nil))
			for _, p := range cluster.members {
				fault.begin(p)
			}
			defer cluster.heal()
			for began := time.Now(); time.Since(began) < fault.lasts; {
				requireEnds(t, get(c, key))
				require.Error(t, put(c, key)(within(t, time.Second))) // earlier when its connection is given up
			}
			pace := keepPace(t)
			cluster.heal()
			reads, writes := requireBack(t, get(c, key)), requireBack(t, put(c, key))
			t.Logf("reads are back after %v, writes %v later", reads.Round(time.Millisecond), writes.Round(time.Millisecond))
			require.Less(t, reads+writes, pace.allow(2*time.Second))
		})
	}
}
