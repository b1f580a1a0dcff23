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

func TestSignalEndsATourWhoseClusterDoesNotAnswer(t *testing.T) {
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

func TestSecondSignalEndsTheTourAtOnce(t *testing.T) {
	t.Parallel()
	proxy := etcdtest.NewProxy(t, etcdtest.New(t).Endpoint())
	proxy.Blackhole()
	p := start(t, nil, "-endpoints", proxy.Endpoint())
	p.until(t, "etcd Provider")

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.cmd.Wait()
	}()
	// Nothing tells when the first signal has been taken note of.
	for again := time.Tick(10 * time.Millisecond); ; {
		_ = p.cmd.Process.Signal(os.Interrupt) // fails once it has ended
		select {
		case <-again:
			continue
		case <-ended:
		}
		break
	}
	require.Equal(t, syscall.SIGINT, p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
}

func TestTourCleansUpAfterItsReaderHasLeft(t *testing.T) {
	t.Parallel()
	p := start(t, nil)
	p.until(t, "Connected")
	require.NoError(t, p.pipe.Close())
	require.Zero(t, p.end(t), "%s", &p.stderr)
}
