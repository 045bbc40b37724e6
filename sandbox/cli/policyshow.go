//go:build !hot

package cli

import (
	"fmt"

	"github.com/spf13/pflag"

	"sbx/sandbox/policy"
)

func definePolicyShow(a *app, fs *pflag.FlagSet) action {
	format := fs.StringP("format", "f", "text", "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 1, 1, "PRESET (default, untrusted, compat or privileged)"); err != nil {
			return 0, err
		}
		if *format != "text" && *format != "json" {
			return 0, &flagError{"format", fmt.Errorf("%s: neither text nor json", quoteArg(*format))}
		}
		preset, err := policy.Find(args[0])
		if err != nil {
			return 0, fmt.Errorf("policy show: %w", err)
		}
		return 0, policy.Show(a.stdout, preset, *format)
	}
}
