package etcdtest

import "syscall"

// endWithParent has the kernel kill a child when this process ends without
// stopping it: by a panic, or by the timeout of go test.
var endWithParent = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
