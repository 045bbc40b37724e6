package cli

import (
	"errors"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

func newFlagSet(name string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// parse parses args and puts pflag's errors into our words. pflag.ErrHelp comes back as it is.
func parse(fs *pflag.FlagSet, args []string) error {
	err := fs.Parse(args)
	var (
		unknown *pflag.NotExistError
		noValue *pflag.ValueRequiredError
		bad     *pflag.InvalidValueError
		syntax  *pflag.InvalidSyntaxError
	)
	switch {
	case err == nil, err == pflag.ErrHelp:
		return err
	case errors.As(err, &unknown):
		return unknownFlag(fs, unknown)
	case errors.As(err, &noValue):
		return &usageError{msg: "--" + noValue.GetFlag().Name + ": needs a value", hint: strings.TrimSuffix("sbx help "+fs.Name(), " sbx")}
	case errors.As(err, &bad):
		return &flagError{bad.GetFlag().Name, bad.Unwrap()}
	case errors.As(err, &syntax):
		return &usageError{msg: "bad flag: " + quoteArg(syntax.GetSpecifiedFlag())}
	}
	return err
}

func unknownFlag(fs *pflag.FlagSet, e *pflag.NotExistError) error {
	name := e.GetSpecifiedName()
	err := &usageError{hint: "sbx help " + fs.Name() + " lists the flags"}
	if fs.Name() == "sbx" {
		err.hint = "sbx help lists the flags; those of a command follow it"
	}
	if e.GetSpecifiedShortnames() != "" {
		err.msg = "unknown flag: " + quoteArg("-"+name)
		return err
	}
	err.msg = "unknown flag: " + quoteArg("--"+name)
	var names []string
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := nearest(name, names); near != "" {
		err.hint = "did you mean --" + near + "?"
	}
	return err
}

// nearest returns the word that s is most likely a slip for, or "".
func nearest(s string, words []string) string {
	best, limit := "", 1+len(s)/4
	if len(s) > 40 {
		return "" // nobody meant that
	}
	for _, w := range words {
		d := distance(s, w)
		if swapped(s, w) {
			d = 1
		}
		if len(s) >= 3 && strings.HasPrefix(w, s) {
			d = 0
		}
		if d <= limit {
			best, limit = w, d-1
		}
	}
	return best
}

// swapped reports whether two neighbouring letters of a are the other way round in b.
func swapped(a, b string) bool {
	for i := range len(a) - 1 {
		if a[:i]+a[i+1:i+2]+a[i:i+1]+a[i+2:] == b {
			return true
		}
	}
	return false
}

// distance is the number of letters to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}

// parsed is a flag whose value a function takes.
type parsed func(string) error

func (f parsed) Set(s string) error { return f(s) }
func (f parsed) String() string     { return "" }
func (f parsed) Type() string       { return "" }
