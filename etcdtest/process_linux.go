package etcdtest

import "syscall"

// endWithParent makes the kernel kill a child if this process ends without stopping it,
// by a panic or by the timeout of go test.
var endWithParent = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
