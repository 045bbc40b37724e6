//go:build !hot

package cli

import (
	"embed"

	"github.com/spf13/pflag"
)

// The scripts ask sbx itself what may stand where the cursor is: sbx completion words.
//
//go:embed completion/sbx.*
var completionScripts embed.FS

func defineCompletion(a *app, fs *pflag.FlagSet) action {
	return func(args []string) (int, error) {
		if len(args) > 0 && args[0] == "words" {
			return 0, a.printWords(args[1:])
		}
		if err := wantArgs(args, 1, 1, "SHELL (bash, zsh or fish)"); err != nil {
			return 0, err
		}
		script, err := completionScripts.ReadFile("completion/sbx." + args[0])
		if err != nil {
			return 0, &usageError{msg: quoteArg(args[0]) + ": not one of bash, zsh, fish"}
		}
		return 0, a.print(string(script))
	}
}
