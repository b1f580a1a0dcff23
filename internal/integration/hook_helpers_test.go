package integration

import (
	"context"

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
