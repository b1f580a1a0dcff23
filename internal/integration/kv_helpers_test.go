package integration

import (
	"context"
	"strconv"

	"github.com/blueprint-go/etcd"
)

// writing is a call that writes p, which exists with the value "1", or keys below it.
type writing func(ctx context.Context, c *etcd.Client, p string, result etcd.WriteOption) error

// increment adds one to a number; no value counts as 0.
func increment(old []byte) ([]byte, error) {
	n := 0
	if old != nil {
		var err error
		if n, err = strconv.Atoi(string(old)); err != nil {
			return nil, err
		}
	}
	return []byte(strconv.Itoa(n + 1)), nil
}
