package main

import (
	"fmt"
	"slices"
)

var (
	allCallers = []int{1, 2, 4, 16, 64, 256, 1024}
	allValues  = []int{100, 1024, 10240}
)

// setting is what a cluster is started with.
type setting struct {
	members int
	fsync   bool
}

// cell is what all contenders are measured in.
type cell struct {
	setting
	workload workload
	callers  int
	value    int // bytes
}

func (c cell) String() string {
	return fmt.Sprintf("%s, callers %d, values of %d B, members %d, fsync %s",
		c.workload.name, c.callers, c.value, c.members, onOff(c.fsync))
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// sweep is every combination of its lists, but for more callers than a workload has
// room for.
type sweep struct {
	workloads []workload
	callers   []int
	values    []int
	members   []int
	fsync     []bool
}

func (s sweep) cells() []cell {
	var all []cell
	for _, members := range s.members {
		for _, fsync := range s.fsync {
			for _, value := range s.values {
				for _, w := range s.workloads {
					for _, callers := range s.callers {
						if callers <= w.room(value) {
							all = append(all, cell{setting{members, fsync}, w, callers, value})
						}
					}
				}
			}
		}
	}
	return all
}

// standardPlan varies one thing at a time, as all combinations would take hours: the
// callers for every workload, then the size of the values, the members, and fsync.
func standardPlan() []cell {
	return plan(
		sweep{some("put", "get", "mixed"), allCallers, []int{100}, []int{1}, []bool{true}},
		sweep{some("cas", "list", "keys", "scan", "watch", "lock", "withlock", "bulk"), []int{1, 16, 256}, []int{100}, []int{1}, []bool{true}},
		sweep{some("event", "event beside"), []int{1, 16}, []int{100}, []int{1}, []bool{true}},
		sweep{some("put", "get", "list", "watch", "bulk"), []int{1, 16, 256}, []int{1024, 10240}, []int{1}, []bool{true}},
		sweep{some("put", "get", "mixed"), []int{1, 16, 64, 256, 1024}, []int{100}, []int{3}, []bool{true}},
		sweep{some("put", "mixed", "cas"), []int{1, 16, 256}, []int{100}, []int{1}, []bool{false}},
	)
}

// shortPlan has every workload once, with one caller and with several, and a cluster.
func shortPlan() []cell {
	return plan(
		sweep{workloads, []int{1, 8}, []int{100}, []int{1}, []bool{false}},
		sweep{some("put", "get"), []int{8}, []int{1024}, []int{3}, []bool{true}},
	)
}

// plan joins sweeps. Each cluster is started once.
func plan(sweeps ...sweep) []cell {
	var all []cell
	for _, s := range sweeps {
		all = append(all, s.cells()...)
	}
	var order []setting
	for _, c := range all {
		if !slices.Contains(order, c.setting) {
			order = append(order, c.setting)
		}
	}
	slices.SortStableFunc(all, func(a, b cell) int {
		return slices.Index(order, a.setting) - slices.Index(order, b.setting)
	})
	return all
}

// some returns workloads of this program's own choice.
func some(names ...string) []workload {
	var all []workload
	for _, name := range names {
		i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
		all = append(all, workloads[i])
	}
	return all
}
