package main

import (
	"runtime"
	"time"
)

// spending is what a time has cost, or all the time so far.
type spending struct {
	time           time.Duration
	client, server time.Duration // of processors
	allocs, bytes  uint64        // of this process
}

// origin is what the times of spendings are since.
var origin = time.Now()

// spent returns the spending of this process and of its servers so far.
func spent(c *cluster) (s spending, err error) {
	if s.server, err = c.processorTime(); err != nil {
		return s, err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.allocs, s.bytes = m.Mallocs, m.TotalAlloc
	s.client, _ = processorTime()
	s.time = time.Since(origin)
	return s, nil
}

func (s spending) since(earlier spending) spending {
	return spending{
		time: s.time - earlier.time, client: s.client - earlier.client, server: s.server - earlier.server,
		allocs: s.allocs - earlier.allocs, bytes: s.bytes - earlier.bytes,
	}
}

func (s spending) plus(t spending) spending {
	return spending{
		time: s.time + t.time, client: s.client + t.client, server: s.server + t.server,
		allocs: s.allocs + t.allocs, bytes: s.bytes + t.bytes,
	}
}
