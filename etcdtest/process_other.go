//go:build !linux

package etcdtest

import "syscall"

// endWithParent only exists on Linux: elsewhere a child outlives a process that ends
// without stopping it.
var endWithParent *syscall.SysProcAttr
