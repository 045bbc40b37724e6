//go:build hot

package image

import (
	"context"
	"errors"
	"strings"
)

// In the hot half of sbx (see main_hot.go) this package only finds images that are here.

// ErrNotHot says that the other half must do it.
var ErrNotHot = errors.New("this takes the whole of sbx")

// Pull finds an image by its whole name, if it is present and need not be looked for.
func Pull(_ context.Context, s *Store, opts PullOptions) (*Image, error) {
	name := strings.TrimPrefix(opts.Image, "docker://")
	n, err := parse(name)
	if err != nil || n.Registry == "" || opts.Policy != PullMissing && opts.Policy != PullNever || opts.Platform != (Platform{}) {
		return nil, ErrNotHot
	}
	return s.Find(n.String())
}

func (s *Store) makeIndex() (index, error) { return index{}, ErrNotHot }
