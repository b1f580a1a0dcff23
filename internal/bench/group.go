package main

import (
	"cmp"
	"fmt"
	"slices"
)

// group is the cells that differ in nothing but workload and callers.
type group struct {
	report  *report
	members int
	fsync   bool
	value   int
	cells   []*Cell
}

// groups returns those of a report, that with the most cells first.
func (r *report) groups() (all []*group) {
	for i := range r.Cells {
		c := &r.Cells[i]
		at := slices.IndexFunc(all, func(g *group) bool {
			return g.members == c.Members && g.fsync == c.Fsync && g.value == c.Value
		})
		if at < 0 {
			at = len(all)
			all = append(all, &group{report: r, members: c.Members, fsync: c.Fsync, value: c.Value})
		}
		all[at].cells = append(all[at].cells, c)
	}
	slices.SortStableFunc(all, func(a, b *group) int { return cmp.Compare(len(b.cells), len(a.cells)) })
	return all
}

func (g *group) title() string {
	members := "one member"
	if g.members > 1 {
		members = fmt.Sprintf("%d members", g.members)
	}
	disk := "with fsync"
	if !g.fsync {
		disk = "without fsync"
	}
	return fmt.Sprintf("%s %s, values of %s", members, disk, size(g.value))
}

// file returns the name of a chart of the group.
func (g *group) file(kind string) string {
	return fmt.Sprintf("performance-%s-%d-fsync-%s-%d.svg", kind, g.members, onOff(g.fsync), g.value)
}

// size prints a number of bytes.
func size(n int) string {
	if n >= 1024 && n%1024 == 0 {
		return fmt.Sprintf("%d KiB", n/1024)
	}
	return fmt.Sprintf("%d B", n)
}

// workloads returns the names, in the order in which they were measured.
func (g *group) workloads() (names []string) {
	for _, c := range g.cells {
		if !slices.Contains(names, c.Workload) {
			names = append(names, c.Workload)
		}
	}
	return names
}

// of returns the cells of a workload, from the fewest callers.
func (g *group) of(workload string) (cells []*Cell) {
	for _, c := range g.cells {
		if c.Workload == workload {
			cells = append(cells, c)
		}
	}
	slices.SortFunc(cells, func(a, b *Cell) int { return cmp.Compare(a.Callers, b.Callers) })
	return cells
}

// callers returns all numbers of callers in the group.
func (g *group) callers() (all []int) {
	for _, c := range g.cells {
		all = append(all, c.Callers)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// contenders returns those of a workload but for the baseline.
func (g *group) contenders(workload string) (names []string) {
	for _, c := range g.of(workload) {
		for _, r := range c.Results {
			if r.Contender != baseline && !slices.Contains(names, r.Contender) {
				names = append(names, r.Contender)
			}
		}
	}
	return names
}

// ratio returns one entry of a table of ratios.
func (g *group) ratio(workload, contender string, callers int) string {
	for _, c := range g.of(workload) {
		if r := c.of(contender); c.Callers == callers && r != nil {
			return fmt.Sprintf("**%.2f**<br><sub>%.2f–%.2f</sub>", r.Ratio.Median, r.Ratio.Min, r.Ratio.Max)
		}
	}
	return ""
}

// aboutWorkload says what a call of a workload is.
func aboutWorkload(name string) string {
	i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
	if i < 0 { // of another version of this program
		return ""
	}
	return workloads[i].about
}
