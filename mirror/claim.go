package mirror

import (
	"strings"

	"github.com/blueprint-go/etcd"
)

// isClaim stands in until the root has Event.IsClaim.
func isClaim(ev *etcd.Event) bool {
	kv := ev.Kv
	return ev.Type == etcd.EventPut && kv.Lease != 0 && kv.Value != nil && len(kv.Value) == 0 && strings.HasSuffix(kv.Key, "\x00"+kv.Lease.String())
}
