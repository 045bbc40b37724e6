//go:build !hot

package cli

import (
	"github.com/spf13/pflag"

	"sbx/sandbox/image"
)

func defineTag(a *app, fs *pflag.FlagSet) action {
	return func(args []string) (int, error) {
		if err := wantArgs(args, 2, -1, "IMAGE NAME"); err != nil {
			return 0, err
		}
		return 0, a.tag(args[0], args[1:])
	}
}

func (a *app) tag(ref string, names []string) error {
	full := make([]string, len(names))
	for i, name := range names {
		n, err := image.NewName(name)
		if err != nil {
			return err
		}
		full[i] = n.String()
	}
	store, err := a.store()
	if err != nil {
		return err
	}
	img, err := find(store, ref)
	if err != nil {
		return err
	}
	defer release(img)
	return store.AddNames(img.ID, full...)
}
