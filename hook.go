package etcd

import (
	"context"
	"errors"
	"time"
)

// Hook observes requests: for metrics, traces and logs. Many goroutines call it at once.
// One call of a method of [Client] may make several requests; each is reported once, with
// all its attempts.
//
// A panic of a hook reaches the caller of the method, and leaves nothing behind: a claim
// to a lock is given up. Requests in the background, such as renewals, have no caller:
// there the panic is logged, and the request goes on.
type Hook interface {
	// BeforeRequest is called before a request is first sent. It returns the context that
	// the request goes on with: ctx itself or one derived from it; nil stands for ctx.
	BeforeRequest(ctx context.Context, req RequestInfo) context.Context
	// AfterRequest is called once for each BeforeRequest that returned, with the context
	// that it returned.
	AfterRequest(ctx context.Context, req RequestInfo, res ResultInfo)
}

// RequestInfo describes a request to a [Hook].
type RequestInfo struct {
	// Op is the operation in lower case, such as "put" or "txn". One call may make requests of
	// several: the first [Lock.Lock] of a client those of "grant" and "lock". The [Error] that it
	// returns names the call.
	Op string
	// Key is the first key concerned, without the namespace; empty if there is
	// none.
	Key string
	// Write reports whether the request can change anything.
	Write bool
}

// ResultInfo describes how a request ended.
type ResultInfo struct {
	// Attempts is how often the request was tried, at least 1; 0 if the BeforeRequest of
	// another hook panicked.
	Attempts int
	// Duration is the time from BeforeRequest to the end, waits included.
	Duration time.Duration
	// Batch is how many requests travelled together, this one included, see
	// [Config.WithBatching]; 1 for one that went by itself.
	Batch int
	// Err is how the request itself ended: nil, or an [*Error]. The caller may get a
	// different error, for example that of a value that does not decode, or
	// [ErrKeyNotFound], which the server reports without an error; or none, as for
	// revoking a lease that had ended before.
	Err error
}

// hooked is a request whose begin the hooks have seen, and whose end they are to see.
type hooked struct {
	hooks    []Hook
	contexts []context.Context // nil where BeforeRequest has not returned
	info     RequestInfo
	result   ResultInfo
	// guard calls a hook, and may recover its panic.
	guard func(func())
}

// before calls the hooks and returns the context that the request goes on with.
func (h *hooked) before(ctx context.Context) context.Context {
	for _, hook := range h.hooks {
		seen := ctx
		h.contexts = append(h.contexts, nil)
		h.guard(func() {
			if next := hook.BeforeRequest(ctx, h.info); next != nil {
				seen = next
			}
			h.contexts[len(h.contexts)-1] = seen
		})
		ctx = seen
	}
	return ctx
}

// after calls the hooks in reverse, the rest of them even when one panics.
func (h *hooked) after() {
	n := len(h.contexts) - 1
	if n < 0 {
		return
	}
	ctx := h.contexts[n]
	h.contexts = h.contexts[:n]
	defer h.after()
	if ctx != nil {
		h.guard(func() { h.hooks[n].AfterRequest(ctx, h.info, h.result) })
	}
}

// errHookPanicked is what hooks see when another one has kept a request from being sent.
var errHookPanicked = errors.New("a hook panicked before the request")

type backgroundKey struct{}

// inBackground returns a context for requests that no caller waits for: there the panic
// of a hook would end the process, or leave undone what the client owes.
func inBackground(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}
