package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// heading says what was measured on what, and names the columns.
func (r *report) heading() string {
	return fmt.Sprintf(`%s
%d rounds of %v for each contender, in turns; ratios are to %s: median [min, max]
cpu in µs of processors per unit; allocs and B per unit; times of calls in ms

`, r.Machine, r.Rounds, r.Duration, baseline)
}

// lines returns the cell as a table.
func (c *Cell) lines() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s, callers %d, values of %d B, members %d, fsync %s\n", c.Workload, c.Callers, c.Value, c.Members, onOff(c.Fsync))
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "\t%ss/s\tratio\t\tclient cpu\tserver cpu\tallocs\tB\tp50\tp99\tp99.9\t\n", c.Unit) // to a buffer
	for _, r := range c.Results {
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.2f\t[%.2f, %.2f]\t%s\t%s\t%.1f\t%.0f\t%.3f\t%.3f\t%.3f\t\n",
			r.Contender, r.Rate.Median, r.Ratio.Median, r.Ratio.Min, r.Ratio.Max,
			orUnknown(r.ClientCPU), orUnknown(r.ServerCPU), r.Allocs, r.Bytes, r.P50/1000, r.P99/1000, r.P999/1000)
	}
	_ = w.Flush() // the same
	text.WriteByte('\n')
	return text.String()
}

// orUnknown prints a figure that not every system tells.
func orUnknown(figure *float64) string {
	if figure == nil {
		return "?"
	}
	return fmt.Sprintf("%.1f", *figure)
}
