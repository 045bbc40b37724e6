//go:build !hot

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"sbx/sandbox"
)

// printJSON writes v, indented, as podman does.
func (a *app) printJSON(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	return a.print(b.String())
}

// printTable writes rows below a header, in columns.
func (a *app) printTable(header []string, rows [][]string) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	if header != nil {
		rows = append([][]string{header}, rows...)
	}
	for _, row := range rows {
		for i, cell := range row {
			row[i] = sandbox.OneLine(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
	return a.print(trimLines(b.String()))
}

// trimLines removes the blanks that tabwriter leaves at the end of lines.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// humanSize is a size as podman writes it: 7.1 MB, with powers of 1000.
func humanSize(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	f, i := float64(n), 0
	for f >= 999.5 && i < len(units)-1 {
		f /= 1000
		i++
	}
	return fmt.Sprintf("%.3g %s", f, units[i])
}

// humanTime is a point in time as podman writes it.
func humanTime(t time.Time) string {
	if !isKnown(t) {
		return "N/A"
	}
	return t.Format("2006-01-02 15:04:05 -0700 MST")
}

// isKnown: builders that want the same bytes twice write the time 0.
func isKnown(t time.Time) bool { return !t.IsZero() && t.Unix() != 0 }

// humanAge is the time since t in one unit: 3 weeks ago.
func humanAge(t, now time.Time) string {
	if !isKnown(t) {
		return "N/A"
	}
	d := max(now.Sub(t), 0)
	const day = 24 * time.Hour
	for _, u := range []struct {
		name string
		size time.Duration
		from time.Duration // below that, the next unit tells more
	}{
		{"year", 365 * day, 2 * 365 * day},
		{"month", 30 * day, 2 * 30 * day},
		{"week", 7 * day, 2 * 7 * day},
		{"day", day, 2 * day},
		{"hour", time.Hour, time.Hour},
		{"minute", time.Minute, time.Minute},
		{"second", time.Second, 0},
	} {
		if d >= u.from {
			n := int(d / u.size)
			if n == 1 {
				return fmt.Sprintf("1 %s ago", u.name)
			}
			return fmt.Sprintf("%d %ss ago", n, u.name)
		}
	}
	return ""
}
