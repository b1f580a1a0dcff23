package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"unicode"
)

//go:embed performance.tmpl
var performanceText string

// page is what the template is given.
type page struct {
	*report
	Main        *section
	Others, All []*section
	Workloads   []about
}

// section is a group as the template sees it.
type section struct {
	*group
	Chart, Processors bool
}

type about struct{ Name, About, Unit string }

// render writes performance.md and its charts, and removes the charts of before.
func (r *report) render(docs string) error {
	old, err := filepath.Glob(filepath.Join(docs, "performance-*.svg"))
	if err != nil {
		return err
	}
	files := map[string]string{}
	p := page{report: r}
	for i, g := range r.groups() {
		s := &section{group: g, Chart: i == 0 || len(g.callers()) > 3}
		p.All = append(p.All, s)
		if s.Chart {
			files[g.file("throughput")] = g.throughput()
		}
		if i > 0 {
			p.Others = append(p.Others, s)
			continue
		}
		p.Main = s
		files[g.file("latency")] = g.latency()
		if chart := g.processors(); chart != "" {
			s.Processors = true
			files[g.file("processors")] = chart
		}
	}
	for _, c := range r.Cells {
		a := about{c.Workload, aboutWorkload(c.Workload), c.Unit}
		if !slices.Contains(p.Workloads, a) {
			p.Workloads = append(p.Workloads, a)
		}
	}
	text, err := template.New("performance").Parse(performanceText)
	if err != nil {
		return err
	}
	var out strings.Builder
	if err := text.Execute(&out, p); err != nil {
		return err
	}
	files["performance.md"] = out.String()
	return replaceFiles(docs, old, files)
}

// replaceFiles writes files and removes those old ones that are not among them.
func replaceFiles(dir string, old []string, files map[string]string) error {
	for _, path := range old {
		if _, stays := files[filepath.Base(path)]; !stays {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// File returns the name of a chart of the section.
func (s *section) File(kind string) string { return s.file(kind) }

// Heading returns the title of the section.
func (s *section) Heading() string {
	title := []rune(s.title())
	title[0] = unicode.ToUpper(title[0])
	return string(title)
}

// RatioTable returns the ratios, a column for each number of callers.
func (s *section) RatioTable() string {
	var text strings.Builder
	text.WriteString("| times clientv3 | |")
	for _, n := range s.callers() {
		fmt.Fprintf(&text, " %d |", n)
	}
	text.WriteString("\n|---|---|" + strings.Repeat("--:|", len(s.callers())) + "\n")
	for _, w := range s.workloads() {
		for i, contender := range s.contenders(w) {
			name := "`" + w + "`"
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(&text, "| %s | %s |", name, contender)
			for _, n := range s.callers() {
				fmt.Fprintf(&text, " %s |", s.ratio(w, contender, n))
			}
			text.WriteByte('\n')
		}
	}
	return text.String()
}

// FigureTable returns everything that was measured in the section.
func (s *section) FigureTable() string {
	var text strings.Builder
	text.WriteString("| workload | callers | client | per second | times clientv3 | client µs | servers µs | objects | bytes | p50 ms | p99 ms | p99.9 ms |\n")
	text.WriteString("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, w := range s.workloads() {
		for _, c := range s.of(w) {
			for _, r := range c.Results {
				fmt.Fprintf(&text, "| `%s` | %d | %s | %.0f | %.2f [%.2f, %.2f] | %s | %s | %.1f | %.0f | %.3f | %.3f | %.3f |\n",
					w, c.Callers, r.Contender, r.Rate.Median, r.Ratio.Median, r.Ratio.Min, r.Ratio.Max,
					orUnknown(r.ClientCPU), orUnknown(r.ServerCPU), r.Allocs, r.Bytes, r.P50/1000, r.P99/1000, r.P999/1000)
			}
		}
	}
	return text.String()
}
