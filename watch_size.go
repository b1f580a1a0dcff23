package etcd

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Fragments keep responses small. But dividing a response takes a server time that grows
// with the square of the number of events in a fragment of 2 MB: seconds for events of a
// hundred bytes, milliseconds for events of several kilobytes. So a watch asks for
// fragments only if its events are large.

// largeEvent is the mean size in bytes from which a watch asks for fragments.
const largeEvent = 4 << 10

// eventSizes is what a watch has learned about the size of its events.
type eventSizes struct {
	events, bytes int
	sampled       bool // a response was too large once
	fragment      bool // ask for fragments whatever the mean
}

func (s *eventSizes) add(events []*mvccpb.Event) {
	if s.events > 1000 {
		s.events, s.bytes = s.events/2, s.bytes/2 // newer events count more
	}
	s.events += len(events)
	s.bytes += eventBytes(events)
}

// eventBytes returns about how much memory events take.
func eventBytes(events []*mvccpb.Event) int {
	n := 0
	for _, ev := range events {
		n += eventSize(ev)
	}
	return n
}

// eventOverhead is what an event takes besides its key and values.
const eventOverhead = 64

func eventSize(ev *mvccpb.Event) int {
	n := eventOverhead + len(ev.Kv.Key) + len(ev.Kv.Value)
	if ev.PrevKv != nil {
		n += eventOverhead + len(ev.PrevKv.Key) + len(ev.PrevKv.Value)
	}
	return n
}
