package integration

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/blueprint-go/etcd"
)

// hook is an [etcd.Hook] of functions; nil ones do nothing.
type hook struct {
	before func(context.Context, etcd.RequestInfo) context.Context
	after  func(etcd.RequestInfo, etcd.ResultInfo)
}

func (h hook) BeforeRequest(ctx context.Context, req etcd.RequestInfo) context.Context {
	if h.before == nil {
		return ctx
	}
	return h.before(ctx, req)
}

func (h hook) AfterRequest(_ context.Context, req etcd.RequestInfo, res etcd.ResultInfo) {
	if h.after != nil {
		h.after(req, res)
	}
}

type entry struct {
	hook, when string
	req        etcd.RequestInfo
	res        etcd.ResultInfo
}

// startled is a hook that panics when its function says so.
type startled struct {
	when atomic.Pointer[func(req etcd.RequestInfo, after bool) bool]
}

func (h *startled) panicIf(req etcd.RequestInfo, after bool) {
	if when := h.when.Load(); when != nil && (*when)(req, after) {
		panic("startled")
	}
}

func (h *startled) BeforeRequest(ctx context.Context, req etcd.RequestInfo) context.Context {
	h.panicIf(req, false)
	return ctx
}

func (h *startled) AfterRequest(_ context.Context, req etcd.RequestInfo, _ etcd.ResultInfo) {
	h.panicIf(req, true)
}

// survive runs f and returns what it panics with.
func survive(f func()) (panicked any) {
	defer func() { panicked = recover() }()
	f()
	return nil
}

// journal is a hook that writes down what it sees.
type journal struct {
	mu      sync.Mutex
	name    string
	shared  *journal // where to write; nil means here
	entries []entry
}

type journalKey struct{}

func (j *journal) write(e entry) {
	if j.shared != nil {
		j = j.shared
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
}

func (j *journal) BeforeRequest(ctx context.Context, req etcd.RequestInfo) context.Context {
	j.write(entry{hook: j.name, when: "before", req: req})
	return context.WithValue(ctx, journalKey{}, j.name)
}

func (j *journal) AfterRequest(ctx context.Context, req etcd.RequestInfo, res etcd.ResultInfo) {
	name, _ := ctx.Value(journalKey{}).(string)
	j.write(entry{hook: name, when: "after", req: req, res: res})
}

// take returns the entries since the last call.
func (j *journal) take() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := j.entries
	j.entries = nil
	return out
}

// requestLog holds the operations of a client's requests, but for those in the background.
type requestLog struct {
	mu  sync.Mutex
	ops []string
}

func (l *requestLog) hook() hook {
	return hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op == "check locks" {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ops = append(l.ops, req.Op)
	}}
}

// during returns the operations of the requests that are made while f runs.
func (l *requestLog) during(f func()) []string {
	l.mu.Lock()
	l.ops = nil
	l.mu.Unlock()
	f()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ops
}
