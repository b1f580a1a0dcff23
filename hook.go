package etcd

import (
	"context"
	"time"
)

// Hook observes requests: for metrics, traces and logs. It is called by many
// goroutines at once. One call of a method of [Client] may make several
// requests; each is reported, with all its attempts as one.
type Hook interface {
	// BeforeRequest is called before a request is first sent. It returns the
	// context that the request goes on with, ctx itself or one derived from it.
	BeforeRequest(ctx context.Context, req RequestInfo) context.Context
	// AfterRequest is called once for each BeforeRequest, with the context
	// that BeforeRequest returned.
	AfterRequest(ctx context.Context, req RequestInfo, res ResultInfo)
}

// RequestInfo describes a request to a [Hook].
type RequestInfo struct {
	// Op is the operation in lower case, such as "put" or "txn".
	Op string
	// Key is the first key concerned, without the namespace; empty if there is
	// none.
	Key string
	// Write tells whether the request can change anything.
	Write bool
}

// ResultInfo describes how a request ended.
type ResultInfo struct {
	// Attempts is how often the request was tried, at least 1.
	Attempts int
	// Duration is the time from BeforeRequest to the end, waits included.
	Duration time.Duration
	// Err is nil or what the caller gets, an [*Error].
	Err error
}
