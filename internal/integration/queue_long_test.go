//go:build long

package integration

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// workerProcess starts a process that works on a queue.
func workerProcess(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := thisProgram(t, workerVariable+"="+strings.Join(args, "\n"))
	require.NoError(t, cmd.Start())
	killAfter(t, cmd)
	return cmd
}

// signal has a process end or stop, and for the end waits for it.
func signal(t *testing.T, cmd *exec.Cmd, s syscall.Signal) {
	t.Helper()
	require.NoError(t, cmd.Process.Signal(s))
	if s == syscall.SIGKILL {
		_ = cmd.Wait() // says that it was killed
	}
}

// The long form of TestNoJobIsLostAndEffectsHappenOnce: consumers are processes, which are killed
// and stopped for longer than their leases live.
func TestKilledConsumersLoseNoJob(t *testing.T) {
	const (
		jobs, workers = 100_000, 8
		faultEvery    = 1500 * time.Millisecond
	)
	seed := rand.Uint64()
	chance := rand.New(rand.NewPCG(seed, 0))
	endpoints := serverProcess(t)
	c := client(t, etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(busyTimeout))
	q := openQueue[int](t, c)
	attempts := filepath.Join(t.TempDir(), "attempts")
	args := []string{strings.Join(endpoints, ","), q.Name(), prefix(t), attempts}
	began := time.Now()

	pushing, pushed := make(chan int, 1000), make(chan struct{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range pushing {
				if err := q.Push(context.Background(), i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		for i := range jobs {
			pushing <- i
		}
		close(pushing)
		wg.Wait()
		close(pushed)
	}()

	processes := make([]*exec.Cmd, workers)
	for i := range processes {
		processes[i] = workerProcess(t, args...)
	}
	stopped := map[int]time.Time{}
	kills, stops := 0, 0
	var drained time.Duration
	tick := time.NewTicker(faultEvery)
	defer tick.Stop()
	for drained == 0 {
		<-tick.C
		for i, since := range stopped {
			if time.Since(since) > 3*workerVisibility {
				signal(t, processes[i], syscall.SIGCONT)
				delete(stopped, i)
			}
		}
		select {
		case <-pushed:
			left, err := c.Count(t.Context(), q.Name()+"\x01job/")
			require.NoError(t, err)
			if left == 0 {
				drained = time.Since(began)
				continue
			}
		default:
		}
		switch i := chance.IntN(workers); {
		case !stopped[i].IsZero():
		case chance.IntN(2) == 0:
			signal(t, processes[i], syscall.SIGKILL)
			processes[i] = workerProcess(t, args...)
			kills++
		default:
			signal(t, processes[i], syscall.SIGSTOP)
			stopped[i] = time.Now()
			stops++
		}
	}
	for i, p := range processes {
		if !stopped[i].IsZero() {
			signal(t, p, syscall.SIGCONT)
		}
		signal(t, p, syscall.SIGKILL)
	}

	holds(t, q, jobqueue.Counts{})
	effects := 0
	for kv, err := range c.Scan(t.Context(), prefix(t)+"effect/", etcd.WithKeysOnly()) {
		require.NoError(t, err)
		require.EqualValues(t, 1, kv.Version, kv.Key)
		effects++
	}
	require.Equal(t, jobs, effects, "none lost")
	lines, err := os.ReadFile(attempts)
	require.NoError(t, err)
	tried := bytes.Count(lines, []byte("\n"))
	require.GreaterOrEqual(t, tried, jobs)
	fmt.Printf("%d jobs, %d processes of %d consumers, %d killed, %d stopped for %v (visibility %v), in %v, %.0f jobs/s: none lost, %d tried more than once or in vain, %d effects, each exactly once (seed %d)\n",
		jobs, workers, workerAtOnce, kills, stops, 3*workerVisibility, workerVisibility, drained.Round(time.Second),
		jobs/drained.Seconds(), tried-jobs, effects, seed)
}
