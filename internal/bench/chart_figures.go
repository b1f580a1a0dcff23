package main

import (
	"fmt"
	"slices"
	"strconv"
)

// drawn reports whether a contender is in the charts. What answers from its own memory
// would leave the others no room.
func drawn(contender string) bool { return contender != leasingName && contender != mirrorName }

// colours gives each contender of a report that is drawn its own.
func (r *report) colours() (names []string, of map[string]string) {
	of = map[string]string{}
	for _, c := range r.Cells {
		for _, result := range c.Results {
			if name := result.Contender; drawn(name) && of[name] == "" {
				of[name] = palette[len(names)%len(palette)]
				names = append(names, name)
			}
		}
	}
	return names, of
}

func (r *report) legend() (marks []mark) {
	names, colours := r.colours()
	for _, name := range names {
		marks = append(marks, mark{name, colours[name], 1})
	}
	return marks
}

// panels returns one for each workload of a group, by the callers: skip leaves contenders
// out, and figure is what is drawn of a result.
func (g *group) panels(skip string, figure func(*Result) point) (all []*panel) {
	names, colours := g.report.colours()
	for _, w := range g.workloads() {
		cells := g.of(w)
		p := &panel{title: w, note: aboutWorkload(w), xLabel: "callers"}
		for _, c := range cells {
			p.xs = append(p.xs, strconv.Itoa(c.Callers))
		}
		for _, name := range names {
			s := series{colour: colours[name]}
			for at, c := range cells {
				if result := c.of(name); result != nil && name != skip {
					drawn := figure(result)
					drawn.at = at
					s.points = append(s.points, drawn)
				}
			}
			if len(s.points) > 0 {
				p.series = append(p.series, s)
			}
		}
		all = append(all, p)
	}
	return all
}

// throughput draws the ratios to the baseline.
func (g *group) throughput() string {
	panels := g.panels(baseline, func(r *Result) point {
		return point{y: r.Ratio.Median, lo: r.Ratio.Q1, hi: r.Ratio.Q3}
	})
	for _, p := range panels {
		p.yLabel, p.base, p.least, p.most, p.line = "times "+baseline, 2, 0.5, 2, 1
		p.formatOfTick = func(y float64) string {
			if y < 0.5 {
				return fmt.Sprintf("1/%g×", 1/y)
			}
			return fmt.Sprintf("%g×", y)
		}
	}
	return grid("Throughput as a multiple of "+baseline,
		"above the grey line is faster · median of "+strconv.Itoa(g.report.Rounds)+" rounds, the band holds the middle half of them · "+g.title(),
		g.report.legend(), panels)
}

// latency draws the 99th percentiles.
func (g *group) latency() string {
	panels := g.panels("", func(r *Result) point { ms := max(r.P99, 1) / 1000; return point{y: ms, lo: ms, hi: ms} })
	for _, p := range panels {
		p.yLabel, p.base, p.least, p.most = "p99 in ms", 10, 1, 1
		p.formatOfTick = func(y float64) string { return fmt.Sprintf("%g", y) }
	}
	return grid("Time of a call: 99th percentile", "lower is faster · over all rounds · "+g.title(), g.report.legend(), panels)
}

// Sizes of the chart of processor time.
const (
	barHeight = 15
	barLeft   = 190
	barWidth  = 560
)

// bar is a contender's processor time for a unit of a workload.
type bar struct {
	name           string
	client, server float64 // µs
}

// processors draws what an operation costs the processors, as a share of what it costs
// with the baseline. It returns "" where no system told.
func (g *group) processors() string {
	type block struct {
		title string
		bars  []bar
	}
	var blocks []block
	widest, lines := 1.0, 0
	for _, w := range g.workloads() {
		c := g.busiest(w)
		b := block{title: fmt.Sprintf("%s, %d callers", w, c.Callers)}
		for _, r := range c.Results {
			if drawn(r.Contender) && r.ClientCPU != nil {
				b.bars = append(b.bars, bar{r.Contender, *r.ClientCPU, *r.ServerCPU})
			}
		}
		if len(b.bars) == 0 {
			return ""
		}
		for _, one := range b.bars {
			widest = max(widest, (one.client+one.server)/(b.bars[0].client+b.bars[0].server))
		}
		blocks, lines = append(blocks, b), lines+len(b.bars)
	}
	_, colours := g.report.colours()
	legend := append(g.report.legend(), mark{"full: client, pale: servers", faint, 0.4})
	d := frame(columns*panelWidth+2*chartMargin, chartTop+lines*(barHeight+3)+len(blocks)*12+chartMargin,
		"Processor time of an operation", "as a share of "+baseline+"'s, client and servers together; beside it the µs of both · "+g.title(), legend)
	y := float64(chartTop)
	for _, b := range blocks {
		whole := b.bars[0].client + b.bars[0].server
		for i, one := range b.bars {
			if i == 0 {
				d.text(barLeft-10, y+12, "end", legendStyle, b.title)
			}
			scale := barWidth / widest / whole
			d.add(`<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>`, barLeft, y, one.client*scale, barHeight, colours[one.name])
			d.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s" fill-opacity="0.4"/>`,
				barLeft+one.client*scale, y, one.server*scale, barHeight, colours[one.name])
			d.text(barLeft+(one.client+one.server)*scale+6, y+12, "start", tickStyle,
				fmt.Sprintf("%.0f %% · %.3g + %.3g µs", (one.client+one.server)/whole*100, one.client, one.server))
			y += barHeight + 3
		}
		y += 12
	}
	return d.end()
}

// busiest returns the cell of a workload that has the most callers, up to 256.
func (g *group) busiest(workload string) *Cell {
	cells := g.of(workload)
	i := slices.IndexFunc(cells, func(c *Cell) bool { return c.Callers > 256 })
	if i <= 0 {
		i = len(cells)
	}
	return cells[i-1]
}
