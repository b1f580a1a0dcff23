package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cluster is some members, each a child of this process.
type cluster struct {
	dir     string // of all data, removed by close
	members []*member
}

// member is a child that runs serve. One goroutine at a time asks it.
type member struct {
	endpoint string
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	stdout   *bufio.Reader
}

// startCluster starts a cluster with its data under dir. The ports are free when they are
// chosen and may be taken a moment later, hence the tries.
func startCluster(ctx context.Context, dir string, s setting) (c *cluster, err error) {
	const tries = 3
	var failures []error
	for range tries {
		c, err := tryCluster(ctx, dir, s)
		if err == nil {
			return c, nil
		}
		if failures = append(failures, err); ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("starting %d members: %w", s.members, errors.Join(failures...))
}

func tryCluster(ctx context.Context, dir string, s setting) (c *cluster, err error) {
	base, err := os.MkdirTemp(dir, "etcdbench-")
	if err != nil {
		return nil, err
	}
	c = &cluster{dir: base}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	addrs, err := freeAddrs(2 * s.members)
	if err != nil {
		return nil, err
	}
	clients, peers := addrs[:s.members], addrs[s.members:]
	var all []string
	for i, peer := range peers {
		all = append(all, fmt.Sprintf("%d=http://%s", i, peer))
	}
	for i := range s.members {
		m, err := startMember(memberConfig{
			Name:    strconv.Itoa(i),
			Dir:     filepath.Join(base, strconv.Itoa(i)),
			Client:  "http://" + clients[i],
			Peer:    "http://" + peers[i],
			Cluster: strings.Join(all, ","),
			Fsync:   s.fsync,
		})
		if err != nil {
			return nil, err
		}
		m.endpoint = clients[i]
		c.members = append(c.members, m)
	}
	return c, c.awaitReady(ctx)
}

// freeAddrs returns addresses of the loopback interface whose ports are free.
func freeAddrs(n int) (addrs []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all together, lest one comes twice
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// startMember starts this program once more, as a member.
func startMember(cfg memberConfig) (*member, error) {
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m := &member{cmd: exec.Command(self)} //nolint:gosec // this program itself
	m.cmd.Env = append(os.Environ(), memberVariable+"="+string(text))
	m.cmd.Stderr = os.Stderr
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	m.stdout = bufio.NewReader(stdout)
	return m, m.cmd.Start()
}

// awaitReady waits for all members; a member ends by itself when it can't serve. When
// ctx ends, their input does.
func (c *cluster) awaitReady(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		for _, m := range c.members {
			_ = m.cmd.Process.Kill() // it may have ended
		}
	})()
	for _, m := range c.members {
		if line, err := m.stdout.ReadString('\n'); err != nil || line != "ready\n" {
			return errors.Join(fmt.Errorf("a member said %q: %w", line, err), ctx.Err())
		}
	}
	return nil
}

func (c *cluster) endpoints() []string {
	var all []string
	for _, m := range c.members {
		all = append(all, m.endpoint)
	}
	return all
}

// processorTime returns what all members have spent so far.
func (c *cluster) processorTime() (total time.Duration, err error) {
	for _, m := range c.members {
		if _, err := fmt.Fprintln(m.stdin, "processor time?"); err != nil {
			return 0, err
		}
		line, err := m.stdout.ReadString('\n')
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ns)
	}
	return total, nil
}

// close ends the members and removes their data.
func (c *cluster) close() (err error) {
	for _, m := range c.members {
		err = errors.Join(err, m.stdin.Close())
	}
	for _, m := range c.members {
		err = errors.Join(err, m.cmd.Wait())
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}
