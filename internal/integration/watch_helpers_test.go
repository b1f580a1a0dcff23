package integration

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// measured is a server in a process of its own.
type measured struct {
	endpoint string
	pid      int
}

// cpu returns the CPU time that the server has used.
func (m measured) cpu(b testing.TB) time.Duration {
	b.Helper()
	var all time.Duration
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", m.pid))
	require.NoError(b, err)
	for _, task := range tasks {
		if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", m.pid, task.Name())); err == nil {
			var ns int64
			_, err = fmt.Sscanf(string(data), "%d", &ns)
			require.NoError(b, err)
			all += time.Duration(ns)
		}
	}
	return all
}

// writer puts numbers under a key, one after the other, and notes which of them
// were acknowledged.
type writer struct {
	acked chan int // takes more than any test writes
	count atomic.Int64
	done  chan struct{}
}

// more waits until n further numbers were acknowledged.
func (w *writer) more(t testing.TB, n int64) {
	t.Helper()
	from := w.count.Load()
	require.Eventually(t, func() bool { return w.count.Load() >= from+n }, patience, time.Millisecond)
}

// inUse returns the bytes of the heap that are in use.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // what the first one found in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// progress counts the requests for progress, and notes the newest answer.
type progress struct{ asked, answered atomic.Int64 }

func (p *progress) option() etcdtest.Option {
	return tapped(nil, func(r *pb.WatchRequest) {
		if r.GetProgressRequest() != nil {
			p.asked.Add(1)
		}
	}, func(s grpc.ServerStream, r *pb.WatchResponse) error {
		err := s.SendMsg(r)
		if r.WatchId == clientv3.InvalidWatchID && !r.Canceled {
			p.answered.Store(r.Header.Revision)
		}
		return err
	})
}

// taken returns what f leaves behind in the process, in bytes of heap and stacks and
// in goroutines.
func taken(f func()) (bytes int64, goroutines int) {
	bytes, goroutines = inUse()+stackBytes(), runtime.NumGoroutine()
	f()
	return inUse() + stackBytes() - bytes, runtime.NumGoroutine() - goroutines
}

// patience is how long a test waits for what must come. It bounds failures only.
const patience = 2 * time.Minute

// next returns the next value of a channel.
func next[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-c:
		require.True(t, ok, "channel closed")
		return v
	case <-time.After(patience):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

// closes waits until a channel is closed without a further value.
func closes[T any](t testing.TB, c <-chan T) {
	t.Helper()
	select {
	case v, ok := <-c:
		require.False(t, ok, "a value instead of the end: %v", v)
	case <-time.After(patience):
		require.FailNow(t, "not closed")
	}
}

// lastError returns the error of a watch whose next response is its last one.
func lastError(t testing.TB, c etcd.WatchChan) error {
	t.Helper()
	r := next(t, c)
	require.Error(t, r.Err())
	require.Empty(t, r.Events)
	closes(t, c)
	return r.Err()
}

// events returns the next n events of a watch.
func events(t testing.TB, c etcd.WatchChan, n int) []*etcd.Event {
	t.Helper()
	var out []*etcd.Event
	for len(out) < n {
		r := next(t, c)
		require.NoError(t, r.Err())
		require.NotEmpty(t, r.Events)
		require.Equal(t, r.Events[len(r.Events)-1].Kv.ModRevision, r.Revision)
		out = append(out, r.Events...)
	}
	require.Len(t, out, n)
	return out
}

// told is an event in one line.
func told(e *etcd.Event) string {
	return fmt.Sprintf("%s %s=%s @%d", e.Type, e.Kv.Key, e.Kv.Value, e.Kv.ModRevision)
}

func tellAll(evs []*etcd.Event) []string {
	out := make([]string, len(evs))
	for i, e := range evs {
		out[i] = told(e)
	}
	return out
}

func stackBytes() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.StackInuse)
}

func childServer(b testing.TB) measured {
	b.Helper()
	before := children(b)
	endpoint := serverProcess(b)[0]
	for pid := range children(b) {
		if !before[pid] {
			return measured{endpoint, pid}
		}
	}
	require.FailNow(b, "no process")
	return measured{}
}

// children returns the processes that this one has started.
func children(b testing.TB) map[int]bool {
	b.Helper()
	out := make(map[int]bool)
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(b, err)
	for _, task := range tasks {
		data, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err != nil {
			continue // the thread has ended
		}
		var pid int
		for text := string(data); ; {
			n, err := fmt.Sscanf(text, "%d", &pid)
			if n != 1 || err != nil {
				break
			}
			out[pid] = true
			text = text[len(strconv.Itoa(pid))+1:]
		}
	}
	return out
}

// compactAll compacts everything, behind revision.
func compactAll(t testing.TB, c *etcd.Client) {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), "k")
	require.NoError(t, err)
	_, err = c.Raw().Compact(t.Context(), resp.Header.Revision)
	require.NoError(t, err)
}

// watchStreams counts the watch streams of a server.
type watchStreams struct{ open, most, all atomic.Int64 }

func (s *watchStreams) option(limit uint32) etcdtest.Option {
	return etcdtest.WithGRPCServerOptions(grpc.MaxConcurrentStreams(limit), grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if info.FullMethod != pb.Watch_Watch_FullMethodName {
				return handler(srv, ss)
			}
			s.all.Add(1)
			n := s.open.Add(1)
			defer s.open.Add(-1)
			for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
			}
			return handler(srv, ss)
		}))
}

// tappedWatch changes what a server says on a watch stream, and hears what it is asked.
type tappedWatch struct {
	grpc.ServerStream
	say  func(s grpc.ServerStream, r *pb.WatchResponse) error
	hear func(*pb.WatchRequest)

	ctx context.Context
	end context.CancelFunc // when say fails, as the server's own failure does not
}

func (s tappedWatch) Context() context.Context { return s.ctx }

func (s tappedWatch) SendMsg(m any) error {
	r, ok := m.(*pb.WatchResponse)
	if !ok || s.say == nil {
		return s.ServerStream.SendMsg(m)
	}
	err := s.say(s.ServerStream, proto.CloneOf(r))
	if err != nil {
		s.end()
	}
	return err
}

func (s tappedWatch) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if r, ok := m.(*pb.WatchRequest); ok && err == nil && s.hear != nil {
		s.hear(r)
	}
	return err
}

// tapped is the option for a server whose watch streams begin with begin, if there is
// one, and go through the others.
func tapped(begin func(context.Context) error, hear func(*pb.WatchRequest), say func(grpc.ServerStream, *pb.WatchResponse) error) etcdtest.Option {
	return etcdtest.WithGRPCServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if info.FullMethod != pb.Watch_Watch_FullMethodName {
				return handler(srv, ss)
			}
			if begin != nil {
				if err := begin(ss.Context()); err != nil {
					return err
				}
			}
			ctx, end := context.WithCancel(ss.Context())
			defer end()
			return handler(srv, tappedWatch{ss, say, hear, ctx, end})
		}))
}
