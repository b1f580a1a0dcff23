package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The sizes of a chart are in pixels. The background is drawn, so that a chart looks the
// same on a light page and on a dark one.
const (
	columns     = 3
	panelWidth  = 300
	panelHeight = 232
	plotLeft    = 46 // in the panel
	plotTop     = 34
	plotWidth   = 240
	plotHeight  = 148
	chartTop    = 84
	chartMargin = 20

	ink     = "#1f2328"
	faint   = "#656d76"
	rule    = "#d8dee4"
	surface = "#ffffff"
)

// palette is for the contenders in their order, the baseline first.
var palette = []string{"#57606a", "#0969da", "#8250df", "#1a7f37", "#bf3989", "#9a6700"}

// drawing is an SVG under way.
type drawing struct{ strings.Builder }

func (d *drawing) add(format string, args ...any) {
	fmt.Fprintf(&d.Builder, format+"\n", args...)
}

func (d *drawing) text(x, y float64, anchor, style, text string) {
	d.add(`<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`, x, y, anchor, style, html.EscapeString(text))
}

// Styles of texts.
const (
	titleStyle  = `font-size="19" font-weight="600" fill="` + ink + `"`
	panelStyle  = `font-size="14" font-weight="600" fill="` + ink + `"`
	noteStyle   = `font-size="12" fill="` + faint + `"`
	tickStyle   = `font-size="11" fill="` + faint + `"`
	legendStyle = `font-size="13" fill="` + ink + `"`
)

// frame begins a chart with its background, title and legend.
func frame(width, height int, title, note string, legend []mark) *drawing {
	d := &drawing{}
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif">`, width, height, width, height)
	d.add(`<title>%s</title>`, html.EscapeString(title))
	d.add(`<rect width="%d" height="%d" rx="8" fill="%s" stroke="%s"/>`, width, height, surface, rule)
	d.text(chartMargin, 30, "start", titleStyle, title)
	d.text(chartMargin, 49, "start", noteStyle, note)
	x := float64(chartMargin)
	for _, m := range legend {
		d.add(`<rect x="%.1f" y="59" width="14" height="10" rx="2" fill="%s" fill-opacity="%.2f"/>`, x, m.colour, m.opacity)
		d.text(x+19, 68, "start", legendStyle, m.name)
		x += 40 + 7.4*float64(len(m.name))
	}
	return d
}

func (d *drawing) end() string {
	d.add(`</svg>`)
	return d.String()
}

// mark is an entry of a legend.
type mark struct {
	name    string
	colour  string
	opacity float64
}

// series is one line of a panel.
type series struct {
	colour string
	points []point
}

// point is a figure at one place of the axis, with its spread.
type point struct {
	at        int
	y, lo, hi float64
}

// panel is a small plot with a logarithmic axis upwards.
type panel struct {
	title, note  string
	xs           []string
	xLabel       string
	yLabel       string
	series       []series
	base         float64 // of the logarithm: the axis has a tick at every power
	least, most  float64 // what the axis shows at least
	line         float64 // across the panel, unless it is 0
	formatOfTick func(y float64) string
}

// extent returns the powers of the base that hold all points.
func (p *panel) extent() (from, to int) {
	lo, hi := p.least, p.most
	for _, s := range p.series {
		for _, at := range s.points {
			lo, hi = min(lo, at.lo), max(hi, at.hi)
		}
	}
	power := func(y float64) float64 { return math.Log(y) / math.Log(p.base) }
	return int(math.Floor(power(lo) + 1e-9)), int(math.Ceil(power(hi) - 1e-9))
}

// draw draws the panel with its corner at x, y.
func (p *panel) draw(d *drawing, x, y float64) {
	from, to := p.extent()
	top, left, bottom := y+plotTop, x+plotLeft, y+plotTop+plotHeight
	across := func(at int) float64 {
		if len(p.xs) == 1 {
			return left + plotWidth/2
		}
		return left + 10 + float64(at)*(plotWidth-20)/float64(len(p.xs)-1)
	}
	up := func(v float64) float64 {
		return bottom - (math.Log(v)/math.Log(p.base)-float64(from))/float64(to-from)*plotHeight
	}
	d.text(x+plotLeft, y+14, "start", panelStyle, p.title)
	d.text(x+plotLeft, y+28, "start", noteStyle, p.note)
	for power := from; power <= to; power++ {
		v := math.Pow(p.base, float64(power))
		d.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`, left, up(v), left+plotWidth, up(v), rule)
		if step := 1 + (to-from)/7; (power-from)%step == 0 { // more labels would touch
			d.text(left-6, up(v)+4, "end", tickStyle, p.formatOfTick(v))
		}
	}
	for at, label := range p.xs {
		d.text(across(at), bottom+16, "middle", tickStyle, label)
	}
	d.text(left+plotWidth/2, bottom+32, "middle", tickStyle, p.xLabel)
	middle := top + plotHeight/2
	d.add(`<text x="%.1f" y="%.1f" text-anchor="middle" transform="rotate(-90 %.1f %.1f)" %s>%s</text>`,
		x+9, middle, x+9, middle, tickStyle, html.EscapeString(p.yLabel))
	if p.line != 0 {
		d.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="2"/>`, left, up(p.line), left+plotWidth, up(p.line), palette[0])
	}
	for _, s := range p.series {
		s.draw(d, across, up)
	}
}

// draw draws the spread as a band, and the line upon it.
func (s series) draw(d *drawing, across func(int) float64, up func(float64) float64) {
	var upper, lower, line []string
	for _, p := range s.points {
		upper = append(upper, fmt.Sprintf("%.1f,%.1f", across(p.at), up(p.hi)))
		lower = append([]string{fmt.Sprintf("%.1f,%.1f", across(p.at), up(p.lo))}, lower...)
		line = append(line, fmt.Sprintf("%.1f,%.1f", across(p.at), up(p.y)))
	}
	d.add(`<polygon points="%s" fill="%s" fill-opacity="0.16"/>`, strings.Join(append(upper, lower...), " "), s.colour)
	d.add(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round"/>`, strings.Join(line, " "), s.colour)
	for _, p := range s.points {
		// A single point has no band.
		d.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-opacity="0.45"/>`,
			across(p.at), up(p.lo), across(p.at), up(p.hi), s.colour)
		d.add(`<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, across(p.at), up(p.y), s.colour)
	}
}

// grid draws panels in rows.
func grid(title, note string, legend []mark, panels []*panel) string {
	rows := (len(panels) + columns - 1) / columns
	d := frame(columns*panelWidth+2*chartMargin, chartTop+rows*panelHeight+chartMargin, title, note, legend)
	for i, p := range panels {
		p.draw(d, float64(chartMargin+i%columns*panelWidth), float64(chartTop+i/columns*panelHeight))
	}
	return d.end()
}
