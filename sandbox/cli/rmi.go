//go:build !hot

package cli

import (
	"cmp"
	"errors"
	"strings"

	"github.com/spf13/pflag"

	"sbx/sandbox/image"
)

func defineRmi(a *app, fs *pflag.FlagSet) action {
	all := fs.BoolP("all", "a", false, "")
	force := fs.BoolP("force", "f", false, "")
	ignore := fs.BoolP("ignore", "i", false, "")
	return func(args []string) (int, error) {
		store, err := a.store()
		if err != nil {
			return 0, err
		}
		switch {
		case *all && len(args) > 0:
			return 0, &usageError{msg: "--all and an image exclude each other"}
		case *all:
			if args, err = removable(store); err != nil {
				return 0, err
			}
			*force = true
		case len(args) == 0:
			return 0, wantArgs(args, 1, -1, "IMAGE")
		}
		errs := []error{store.DropBlobs()} // first: it may be all the room there is
		for _, ref := range args {
			err := a.remove(store, ref, *force)
			if errors.Is(err, image.ErrNotFound) && (*ignore || *force) {
				continue
			}
			errs = append(errs, err)
		}
		return 0, errors.Join(errs...)
	}
}

// removable lists every image that is ours to remove, by its id.
func removable(store *image.Store) ([]string, error) {
	list, err := store.List()
	var ids []string
	for _, s := range list {
		if !s.ReadOnly {
			ids = append(ids, s.ID)
		}
	}
	return ids, err
}

// remove takes away a name, or an image, and prints what is gone.
func (a *app) remove(store *image.Store, ref string, force bool) error {
	img, err := find(store, ref)
	if err != nil {
		return err
	}
	release(img) // else we would be those who use it
	untagged, deleted, err := store.Remove(cmp.Or(img.Name, img.ID), force)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, name := range untagged {
		b.WriteString("Untagged: " + name + "\n")
	}
	for _, id := range deleted {
		b.WriteString("Deleted: " + id + "\n")
	}
	return a.print(b.String())
}
