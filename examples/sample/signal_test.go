package main

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/etcdtest"
)

func TestSignalEndsTheTourCleanlyAtAnyPoint(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		// All before the wait for the lease, lest the tour be over first.
		for _, line := range []string{"etcd Provider", "Connected", "Started watching", "Waiting 6 seconds"} {
			t.Run(sig.String()+" at "+line, func(t *testing.T) {
				t.Parallel()
				p := start(t, nil)
				p.until(t, line)
				require.Equal(t, 130, p.interrupt(t, sig))
				require.Contains(t, p.stderr.String(), "sample: "+sig.String()+" signal received")
			})
		}
	}
}

func TestSignalRemovesTheKeysFromACluster(t *testing.T) {
	t.Parallel()
	server := etcdtest.New(t)
	client := connect(t, server)
	p := start(t, nil, "-endpoints", server.Endpoint())
	p.until(t, "Waiting 6 seconds")
	require.Equal(t, 130, p.interrupt(t, os.Interrupt))
	keys, err := client.List(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, keys)
}

func TestSignalEndsATourOfASilentCluster(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"etcd Provider", "Waiting 6 seconds"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			proxy := etcdtest.NewProxy(t, etcdtest.New(t).Endpoint())
			if line == "etcd Provider" {
				proxy.Blackhole()
			}
			p := start(t, nil, "-endpoints", proxy.Endpoint())
			p.until(t, line)
			proxy.Blackhole()
			require.Equal(t, 130, p.interrupt(t, os.Interrupt))
		})
	}
}

func TestFurtherSignalsDontPreventTheToursCleanup(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	p.until(t, "Waiting 6 seconds")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range time.Tick(time.Millisecond) {
			if p.cmd.Process.Signal(os.Interrupt) != nil {
				return // it has ended
			}
		}
	}()
	status, _ := p.wait(t)
	<-ended
	require.Equal(t, 130, status)
}

func TestTourCleansUpAfterItsReaderHasLeft(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	p.until(t, "Connected")
	require.NoError(t, p.pipe.Close())
	require.Zero(t, p.end(t), "%s", &p.stderr)
}
