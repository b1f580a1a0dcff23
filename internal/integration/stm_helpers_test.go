package integration

import (
	"github.com/blueprint-go/etcd"
)

func incrementIn(tx *etcd.Tx, key string) error { return addIn(tx, key, 1) }
