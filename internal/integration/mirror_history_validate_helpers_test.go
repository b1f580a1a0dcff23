package integration

import (
	"math"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd"
)

// watchRecord is one watch with all that it has told, for etcd's own validators.
type watchRecord struct {
	key       string
	prefix    bool
	from      int64
	responses []etcd.WatchResponse
}

// validateByEtcd holds watches against the truth by the validators with which etcd tests
// its own: ordered, unique, atomic, reliable, resumable, bookmarkable, previous values and
// creations. The truth has to begin with an empty cluster, and the caller holds its lock.
func validateByEtcd(h *truth, records []*watchRecord) error {
	known := h.lastLocked()
	var watches []model.WatchOperation
	for _, record := range records {
		op := model.WatchOperation{Request: model.WatchRequest{
			Key: record.key, WithPrefix: record.prefix, Revision: record.from, WithPrevKV: true, WithProgressNotify: true,
		}}
		for _, r := range record.responses {
			if r.Revision <= known {
				op.Responses = append(op.Responses, asModelled(r))
			}
		}
		watches = append(watches, op)
	}
	// The model wants to see the cluster empty, and one client that has seen that.
	empty := porcupine.Operation{
		Input:  model.EtcdRequest{Type: model.Range, Range: &model.RangeRequest{RangeOptions: model.RangeOptions{Start: "empty"}}},
		Call:   1,
		Output: model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Revision: 1, Range: &model.RangeResponse{KVs: []model.KeyValue{}}}},
		Return: 2,
	}
	reports := []report.ClientReport{{ClientID: 1, KeyValue: []porcupine.Operation{empty}, Watch: watches}}
	return validate.ValidateAndReturnVisualize(zap.NewNop(), validate.Config{}, reports, h.persisted(), time.Duration(math.MaxInt32)).Error()
}

// persisted returns the truth as the requests that made it.
func (h *truth) persisted() []model.EtcdRequest {
	var requests []model.EtcdRequest
	for i := range h.starts {
		txn := &model.TxnRequest{}
		for _, f := range h.ofRevision(h.base + int64(i) + 1) {
			op := model.EtcdOperation{Type: model.PutOperation, Put: model.PutOptions{Key: f.Key, Value: model.ToValueOrHash(f.Now.Value)}}
			if !f.Now.exists() {
				op = model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: f.Key}}
			}
			txn.OperationsOnSuccess = append(txn.OperationsOnSuccess, op)
		}
		requests = append(requests, model.EtcdRequest{Type: model.Txn, Txn: txn})
	}
	return requests
}

func asModelled(r etcd.WatchResponse) model.WatchResponse {
	out := model.WatchResponse{Revision: r.Revision, IsProgressNotify: len(r.Events) == 0}
	for _, e := range r.Events {
		told := model.WatchEvent{PersistedEvent: model.PersistedEvent{
			Event:    model.Event{Type: model.PutOperation, Key: strings.Clone(e.Kv.Key), Value: model.ToValueOrHash(string(e.Kv.Value))},
			Revision: e.Kv.ModRevision,
			IsCreate: e.IsCreate(),
		}}
		if e.Type == etcd.EventDelete {
			told.Event = model.Event{Type: model.DeleteOperation, Key: e.Kv.Key}
		}
		if prev := e.PrevKv; prev != nil {
			told.PrevValue = &model.ValueRevision{Value: model.ToValueOrHash(string(prev.Value)), ModRevision: prev.ModRevision, Version: prev.Version}
		}
		out.Events = append(out.Events, told)
	}
	return out
}
