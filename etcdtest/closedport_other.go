//go:build !unix

package etcdtest

import "io"

// reserve does nothing here.
func reserve(string) (io.Closer, error) { return nothing{}, nil }
