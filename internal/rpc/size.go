package rpc

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// requestHeader returns how many bytes the server puts around a request before it
// compares it with its limit (server/v3/etcdserver/v3_server.go,
// processInternalRaftRequestOnce), at most and without the length of the
// request: a header, which holds an ID and, for a user, the name and the revision of
// the rights; and a tag each for header and request.
func requestHeader(user string) int {
	header := 1 + binary.MaxVarintLen64
	if user != "" {
		const revision = 4 // for 268 million changes of users and roles
		header += 1 + protowire.SizeBytes(len(user)) + 1 + revision
	}
	const tags = 2 + 1 // of the fields 100, and 4 to 6
	return tags + protowire.SizeBytes(header)
}

// largestMessage returns the size of the largest request that fits into a limit of
// the server for which header bytes are put around it.
func largestMessage(limit, header int) int {
	n := limit - header - protowire.SizeVarint(uint64(limit))
	if header+protowire.SizeBytes(n+1) <= limit { // its length may take a byte less
		n++
	}
	return n
}
