//go:build !hot

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"
	"unicode/utf8"

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

// printFormat writes rows, a slice of structs, by --format: json, a Go template for each row,
// or `table TEMPLATE`, which puts the fields' names above.
func (a *app) printFormat(format string, rows any, heading bool) error {
	if format == "json" {
		return a.printJSON(rows)
	}
	text, table := strings.CutPrefix(format, "table ")
	text = unescape(strings.TrimSpace(text))
	list := reflect.ValueOf(rows)
	t, err := parseTemplate(text, list.Type().Elem())
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if table && heading {
		if err := t.Execute(&b, headings(list.Type().Elem())); err != nil {
			return templateError(err, list.Type().Elem())
		}
		b.WriteByte('\n')
	}
	for i := range list.Len() {
		if err := t.Execute(&b, list.Index(i).Interface()); err != nil {
			return templateError(err, list.Type().Elem())
		}
		b.WriteByte('\n')
	}
	if !table {
		return a.print(b.String())
	}
	var aligned bytes.Buffer
	w := tabwriter.NewWriter(&aligned, 0, 8, 2, ' ', 0)
	w.Write(b.Bytes())
	w.Flush()
	return a.print(trimLines(aligned.String()))
}

// printOne writes one value by --format.
func (a *app) printOne(format string, v any) error {
	if format == "json" {
		return a.printJSON(v)
	}
	list := reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(v)), 1, 1)
	list.Index(0).Set(reflect.ValueOf(v))
	return a.printFormat(format, list.Interface(), false)
}

func parseTemplate(text string, of reflect.Type) (*template.Template, error) {
	t, err := template.New("").Option("missingkey=error").Funcs(templateFuncs()).Parse(text)
	if err != nil {
		return nil, templateError(err, of)
	}
	return t, nil
}

// templateError says what is wrong with a template over of, in words that are not Go's.
func templateError(err error, of reflect.Type) error {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "template: "), ":")
	text = regexp.MustCompile(`executing "" at <(.*?)>: `).ReplaceAllString(text, "$1: ")
	text = regexp.MustCompile(`can't evaluate field (\w+) in type \S+`).ReplaceAllString(text, "there is no field $1")
	text = regexp.MustCompile(` (in|of) type \S+|\*?\b(cli|image|v1|time|reflect)\.\w+`).ReplaceAllString(text, "")
	names := fields(of)
	return &usageError{
		msg:  "--format: " + text,
		hint: "json, or a Go template like {{" + names[0] + "}}; the fields are " + strings.Join(names, " "),
	}
}

// fields are what a template over a struct can name.
func fields(of reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(of) {
		if f.IsExported() && !f.Anonymous {
			names = append(names, "."+f.Name)
		}
	}
	return names
}

// templateFuncs are those that docker and podman document.
func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			err := enc.Encode(v)
			return strings.TrimSuffix(b.String(), "\n"), err
		},
		"join":  func(list any, sep string) string { return strings.Join(texts(list), sep) },
		"split": func(s, sep string) []string { return strings.Split(s, sep) },
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"title": func(s string) string {
			r, n := utf8.DecodeRuneInString(s)
			if n == 0 {
				return s
			}
			return strings.ToUpper(string(r)) + s[n:]
		},
		"pad": func(s string, before, after int) string {
			if s == "" {
				return s
			}
			return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
		},
		"truncate": func(s string, n int) string {
			if r := []rune(s); n >= 0 && len(r) > n {
				return string(r[:n])
			}
			return s
		},
		"println": fmt.Sprintln,
	}
}

// texts makes a list of strings of any list.
func texts(list any) []string {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return []string{fmt.Sprint(list)}
	}
	out := make([]string, v.Len())
	for i := range out {
		out[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return out
}

// headings is the row that stands for the names of a struct's fields: RepoTags is REPO TAGS.
func headings(t reflect.Type) map[string]string {
	names := map[string]string{}
	for i := range t.NumField() {
		names[t.Field(i).Name] = heading(t.Field(i).Name)
	}
	for i := range t.NumMethod() {
		names[t.Method(i).Name] = heading(t.Method(i).Name)
	}
	return names
}

func heading(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && 'A' <= r && r <= 'Z' && 'a' <= name[i-1] && name[i-1] <= 'z' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

// unescape gives \t and \n in a template their meaning, as podman does.
func unescape(s string) string {
	return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(s)
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

// humanAge is the time since t in one unit: 3 weeks ago.
func humanAge(t, now time.Time) string {
	d := now.Sub(t)
	if t.IsZero() || t.Unix() == 0 {
		return "N/A"
	}
	if d < 0 {
		d = 0
	}
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
