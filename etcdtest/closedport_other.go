//go:build !unix

package etcdtest

import "io"

// bind does nothing here.
func bind(string) (io.Closer, error) { return nothing{}, nil }
