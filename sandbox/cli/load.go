//go:build !hot

package cli

import (
	"cmp"

	"github.com/spf13/pflag"

	"sbx/sandbox/image"
)

func defineLoad(a *app, fs *pflag.FlagSet) action {
	opts := image.LoadOptions{Stdin: a.stdin, Out: a.stderr, Debug: a.debugf}
	fs.StringVarP(&opts.Input, "input", "i", "", "")
	fs.BoolVarP(&opts.Quiet, "quiet", "q", false, "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 0, 1, "SOURCE"); err != nil {
			return 0, err
		}
		if len(args) == 1 {
			if opts.Input != "" {
				return 0, &usageError{msg: "--input and a source exclude each other"}
			}
			opts.Input = args[0]
		}
		return 0, a.load(opts)
	}
}

// load brings the images in and prints the names of each, or its id if it has none.
func (a *app) load(opts image.LoadOptions) error {
	if opts.Input == "" && isTerminal(a.stdin) {
		return &usageError{msg: "no archive: stdin is a terminal", hint: "sbx load -i FILE"}
	}
	store, err := a.store()
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	images, err := image.Load(ctx, store, opts)
	for _, img := range images {
		release(img.Image)
		names := img.Names
		if len(names) == 0 {
			names = []string{"sha256:" + img.ID}
		}
		for _, name := range names {
			err = cmp.Or(err, a.print("Loaded image: "+name+"\n"))
		}
	}
	return err
}
