//go:build !hot

package image

import (
	"context"
	"errors"
	"fmt"
)

// AddNames gives an image further names, full references. A name that another image has
// moves.
func (s *Store) AddNames(image string, names ...string) error {
	if err := s.addNames(image, names); err != nil {
		return fmt.Errorf("tag %s: %w", quoteless(image), err)
	}
	return nil
}

func (s *Store) addNames(image string, names []string) error {
	for _, name := range names {
		if n, err := parse(name); err != nil || n.String() != name {
			return fmt.Errorf("%s is not a full reference: bug in sbx", quoteShort(name))
		}
	}
	return s.fresh(func(ix index) error {
		e, err := ix.find(image)
		if err != nil {
			return err
		}
		if _, err := s.own(e.id); err != nil {
			return err
		}
		return s.ask(context.Background(), request{Op: "name", ID: e.id, Names: names}, nil)
	})
}

// own returns what our library knows of an image. One that only podman has is refused:
// its stores are never written to.
func (s *Store) own(id string) (libraryImage, error) {
	l, err := readImages(s.library())
	if err != nil {
		return libraryImage{}, fmt.Errorf("store: %w", err)
	}
	img, ok := l.image(id)
	if !ok {
		return img, withHint(errors.New("it is in podman's store"), "use podman for it, or copy it: podman save "+id[:12]+" | sbx load")
	}
	return img, nil
}
