//go:build !hot

package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"
	ast "text/template/parse"
	"unicode/utf8"
)

// printFormat writes rows, a slice of structs, by --format: json, a Go template for each row,
// or `table TEMPLATE`, which puts the fields' names above.
func (a *app) printFormat(format string, rows any, heading bool) error {
	if format == "json" {
		return a.printJSON(rows)
	}
	list := reflect.ValueOf(rows)
	text, table := strings.CutPrefix(format, "table ")
	text = unescape(strings.TrimSpace(text))
	if table {
		text = strings.ReplaceAll(text, "}} {{", "}}\t{{") // columns, as with podman
	}
	t, err := parseTemplate(text, list.Type().Elem())
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if table && heading {
		var special map[string]string
		if own, ok := reflect.Zero(list.Type().Elem()).Interface().(interface{ headings() map[string]string }); ok {
			special = own.headings()
		}
		b.WriteString(headings(t.Root, special) + "\n")
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

// parseTemplate makes a template for values of a type. A name that the type has not is found
// out here, whether or not there are values.
func parseTemplate(text string, of reflect.Type) (*template.Template, error) {
	t, err := template.New("").Funcs(templateFuncs()).Parse(text)
	if err == nil {
		err = checkNames(t.Root, of, of)
	}
	if err != nil {
		return nil, templateError(err, of)
	}
	return t, nil
}

// templateError says what is wrong with a template over of.
func templateError(err error, of reflect.Type) error {
	names := fields(of)
	return &usageError{
		msg:  "--format: " + strings.TrimPrefix(err.Error(), "template: :"),
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

// checkNames looks at every name below n. Dot is what a leading dot stands for there, and top
// what $ does; nil is what only the execution tells.
func checkNames(n ast.Node, dot, top reflect.Type) error {
	switch n := n.(type) {
	case *ast.ListNode:
		if n == nil { // no else
			return nil
		}
		return checkAll(n.Nodes, dot, top)
	case *ast.ActionNode:
		return checkNames(n.Pipe, dot, top)
	case *ast.PipeNode:
		return checkAll(n.Cmds, dot, top)
	case *ast.CommandNode:
		return checkAll(n.Args, dot, top)
	case *ast.FieldNode:
		_, err := typeOf(dot, n.Ident)
		return err
	case *ast.VariableNode:
		if n.Ident[0] == "$" {
			_, err := typeOf(top, n.Ident[1:])
			return err
		}
	case *ast.IfNode:
		return checkAll([]ast.Node{n.Pipe, n.List, n.ElseList}, dot, top)
	case *ast.WithNode:
		return cmp.Or(checkAll([]ast.Node{n.Pipe, n.ElseList}, dot, top), checkNames(n.List, typeOfPipe(n.Pipe, dot), top))
	case *ast.RangeNode:
		return cmp.Or(checkAll([]ast.Node{n.Pipe, n.ElseList}, dot, top), checkNames(n.List, element(typeOfPipe(n.Pipe, dot)), top))
	}
	return nil
}

func checkAll[N ast.Node](nodes []N, dot, top reflect.Type) error {
	for _, n := range nodes {
		if err := checkNames(n, dot, top); err != nil {
			return err
		}
	}
	return nil
}

// typeOf follows names from a value of type t.
func typeOf(t reflect.Type, names []string) (reflect.Type, error) {
	for _, name := range names {
		if t == nil {
			return nil, nil
		}
		if m, ok := t.MethodByName(name); ok {
			t = m.Type.Out(0)
			continue
		}
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Interface:
			return nil, nil
		case reflect.Map:
			t = t.Elem()
			continue
		case reflect.Struct:
			if f, ok := t.FieldByName(name); ok && f.IsExported() {
				t = f.Type
				continue
			}
		}
		return nil, fmt.Errorf("there is no field .%s", strings.Join(names, "."))
	}
	return t, nil
}

// typeOfPipe knows the type of a bare field.
func typeOfPipe(p *ast.PipeNode, dot reflect.Type) reflect.Type {
	if len(p.Cmds) == 1 && len(p.Cmds[0].Args) == 1 {
		if f, ok := p.Cmds[0].Args[0].(*ast.FieldNode); ok {
			t, _ := typeOf(dot, f.Ident)
			return t
		}
	}
	return nil
}

func element(t reflect.Type) reflect.Type {
	if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) {
		return t.Elem()
	}
	return nil
}

// headings is the row above a table: the text of the template, with the name of the first
// field in the place of each action. special are those that are called otherwise.
func headings(list *ast.ListNode, special map[string]string) string {
	var b strings.Builder
	for _, n := range list.Nodes {
		if text, ok := n.(*ast.TextNode); ok {
			b.Write(text.Text)
			continue
		}
		name := firstField(n)
		b.WriteString(cmp.Or(special[name], heading(name)))
	}
	return b.String()
}

// firstField is the first field that is shown by n, else the first that it asks for.
func firstField(n ast.Node) string {
	first := func(nodes ...ast.Node) string {
		for _, n := range nodes {
			if name := firstField(n); name != "" {
				return name
			}
		}
		return ""
	}
	switch n := n.(type) {
	case *ast.FieldNode:
		return n.Ident[0]
	case *ast.ActionNode:
		return firstField(n.Pipe)
	case *ast.PipeNode:
		for _, cmd := range n.Cmds {
			if name := first(cmd.Args...); name != "" {
				return name
			}
		}
	case *ast.ListNode:
		if n != nil {
			return first(n.Nodes...)
		}
	case *ast.IfNode:
		return first(n.List, n.ElseList, n.Pipe)
	case *ast.WithNode:
		return first(n.Pipe)
	case *ast.RangeNode:
		return first(n.Pipe)
	}
	return ""
}

// heading is the name of a field as the listings without --format have it.
func heading(name string) string {
	switch name {
	case "ID", "Id":
		return "IMAGE ID"
	case "CreatedSince":
		return "CREATED"
	}
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
