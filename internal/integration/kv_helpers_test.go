package integration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

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

// oddKeys are keys that a server takes and that careless code does not.
var oddKeys = []string{
	"\x00", "\x00\x00", "a\x00b", "a", "a\x00", "\xff", "\xff\xff", "a\xff", "a\xff\xff", "b",
	"\xc3\x28", "größe/日本/🙂", " ", "/", "//", "%2f", "\n", strings.Repeat("k", 4096),
}

// etcdAny reports whether err is one of targets.
func etcdAny(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func manyValues(n int) map[string][]byte {
	kvs := map[string][]byte{}
	for i := range n {
		kvs[fmt.Sprint("many/", i)] = nil
	}
	return kvs
}
