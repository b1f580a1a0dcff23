package integration

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// A job whose function or encoding doesn't return is nobody's, and comes again.
func TestPanicGivesTheJobBack(t *testing.T) {
	t.Parallel()
	srv := server(t)
	work := func(f func()) func(t *testing.T, q *jobqueue.Queue[string]) {
		return func(t *testing.T, q *jobqueue.Queue[string]) {
			t.Helper()
			_ = q.Work(t.Context(), func(context.Context, *jobqueue.Job[string]) error { f(); return nil })
		}
	}
	panics := func() { panic("thrown") }
	for name, tc := range map[string]struct {
		run     func(t *testing.T, q *jobqueue.Queue[string])
		decodes func() // once, before a value is decoded
	}{
		"function": {run: work(panics)},
		"exit":     {run: work(runtime.Goexit)},
		"encoding": {run: func(t *testing.T, q *jobqueue.Queue[string]) {
			t.Helper()
			_, _ = q.Pop(t.Context())
		}, decodes: panics},
		"encoding's exit": {run: func(t *testing.T, q *jobqueue.Queue[string]) {
			t.Helper()
			_, _ = q.Pop(t.Context())
		}, decodes: runtime.Goexit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := openQueue[string](t, client(t, config(srv)), jobqueue.WithEncoding[string](&onceEncoding{decodes: tc.decodes}))
			push(t, q, "a")
			thrown, done := any(nil), make(chan struct{})
			go func() {
				defer close(done)
				defer func() { thrown = recover() }()
				tc.run(t, q)
			}()
			closes(t, done)
			if !strings.HasSuffix(name, "exit") {
				require.Equal(t, "thrown", thrown, "the caller gets the panic")
			}
			j := popped(t, q)
			require.Equal(t, 2, j.Attempt())
			require.NoError(t, j.Ack(t.Context()))
			holds(t, q, jobqueue.Counts{})
		})
	}
}

// onceEncoding is JSON that does something before it first decodes.
type onceEncoding struct {
	etcd.JSON[string]
	decodes func()
}

func (e *onceEncoding) Unmarshal(data []byte) (string, error) {
	if f := e.decodes; f != nil {
		e.decodes = nil
		f()
	}
	return e.JSON.Unmarshal(data)
}
