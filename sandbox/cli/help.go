//go:build !hot

package cli

import (
	"embed"
	"strings"

	"github.com/spf13/pflag"
)

// The help is written by hand. A test compares it with the flags, both ways.
//
//go:embed help/*.txt
var helpTexts embed.FS

func defineHelp(a *app, fs *pflag.FlagSet) action {
	return func(args []string) (int, error) {
		if len(args) == 0 {
			return 0, a.help("")
		}
		if verbs, page := verbsOf(args[0]); verbs != nil && len(args) == 1 {
			return 0, a.help(page)
		}
		c, rest, err := findCommand(args)
		if err != nil {
			return 0, err
		}
		if err := wantArgs(rest, 0, 0, ""); err != nil {
			return 0, err
		}
		return 0, a.help(c.name)
	}
}

// help prints the text on a command, or the first page for "".
func (a *app) help(name string) error {
	if name == "" {
		name = "sbx"
	}
	text, err := helpTexts.ReadFile("help/" + strings.ReplaceAll(name, " ", "-") + ".txt")
	if err != nil {
		return err
	}
	return a.print(string(text))
}
