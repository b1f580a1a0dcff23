//go:build !linux

package etcdtest

import "syscall"

// endWithParent can be asked of Linux alone: elsewhere a child outlives a
// process that ends without stopping it.
var endWithParent *syscall.SysProcAttr
