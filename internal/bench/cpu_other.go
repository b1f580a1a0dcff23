//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package main

import "time"

// processorTime reports that the processor time of a process isn't known here, so that
// the results leave it out.
func processorTime() (time.Duration, bool) { return 0, false }
