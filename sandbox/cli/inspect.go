//go:build !hot

package cli

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"sbx/sandbox/image"
)

func defineInspect(a *app, fs *pflag.FlagSet) action {
	format := fs.StringP("format", "f", "json", "")
	kind := fs.StringP("type", "t", "all", "")
	return func(args []string) (int, error) {
		if err := wantArgs(args, 1, -1, "IMAGE"); err != nil {
			return 0, err
		}
		if *kind != "all" && *kind != "image" {
			return 0, &usageError{msg: fmt.Sprintf("--type: %s: only images can be inspected", quoteArg(*kind))}
		}
		return 0, a.inspect(args, *format)
	}
}

// inspect prints the images that there are, and reports the others.
func (a *app) inspect(refs []string, format string) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	var all []inspection
	var missing []error
	for _, ref := range refs {
		img, err := find(store, ref)
		if errors.Is(err, image.ErrNotFound) {
			missing = append(missing, err)
			continue
		}
		if err != nil {
			return err
		}
		i, err := store.Inspect(cmp.Or(img.Name, img.ID))
		release(img)
		if err != nil {
			return err
		}
		all = append(all, inspection{i})
	}
	if len(all) == 0 {
		return errors.Join(missing...)
	}
	return errors.Join(append([]error{a.printFormat(format, all, false)}, missing...)...)
}

// inspection gives templates .ID beside podman's .Id.
type inspection struct{ *image.Inspection }

// Id is podman's name for the id, in templates as in JSON.
func (i inspection) Id() string { return i.ID }
