//go:build !hot

package cli

import (
	"github.com/spf13/pflag"

	"sbx/sandbox/image"
)

func definePull(a *app, fs *pflag.FlagSet) action {
	f := &pullFlags{policy: image.PullAlways}
	f.accessFlags.addTo(fs)
	fs.StringVar(&f.creds, "creds", "", "")
	fs.StringVar(&f.arch, "arch", "", "")
	fs.StringVar(&f.os, "os", "", "")
	fs.StringVar(&f.variant, "variant", "", "")
	fs.StringVar(&f.platform, "platform", "", "")
	fs.Var(parsed(func(s string) (err error) { f.policy, err = image.ParsePullPolicy(s); return err }), "policy", "")
	fs.Var(parsed(func(s string) error { return assign(&f.retry, s) }), "retry", "")
	fs.Var(parsed(func(s string) error { return assign(&f.retryDelay, s) }), "retry-delay", "")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "")
	allTags := fs.BoolP("all-tags", "a", false, "")
	trust := fs.Bool("disable-content-trust", false, "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 1, -1, "IMAGE"); err != nil {
			return 0, err
		}
		if *allTags {
			return 0, &usageError{msg: "--all-tags: the tags of a repository are not listed by this version of sbx", hint: "name each: sbx pull NAME:TAG NAME:TAG"}
		}
		if *trust {
			a.warn("--disable-content-trust is ignored: there is no content trust to disable")
		}
		if err := f.check(); err != nil {
			return 0, err
		}
		return 0, a.pull(f, args)
	}
}

// pull brings the images in, one after the other, and prints the id of each.
func (a *app) pull(f *pullFlags, names []string) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	for _, name := range names {
		opts, err := f.options(a, name)
		if err != nil {
			return err
		}
		img, err := image.Pull(ctx, store, opts)
		if err != nil {
			return meantFile(name, err)
		}
		release(img)
		if foreign := img.Foreign(); foreign != "" && opts.Platform == (image.Platform{}) && !f.quiet {
			a.warn("%s: %s", name, foreign)
		}
		if err := a.print(img.ID + "\n"); err != nil {
			return err
		}
	}
	return nil
}
