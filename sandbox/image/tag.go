//go:build !hot

package image

import (
	"context"
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
	ix, err := s.openIndex()
	if err != nil {
		return err
	}
	e, err := ix.find(image)
	if err != nil {
		return err
	}
	if err := s.ours(e.id); err != nil {
		return err
	}
	return s.ask(context.Background(), request{Op: "name", ID: e.id, Names: names}, nil)
}

// ours refuses an image that lies in a store of podman's, which is never written to.
func (s *Store) ours(id string) error {
	r, held, err := s.hold(id)
	if err != nil {
		return err
	}
	defer held.Close()
	if r.root != s.path("storage") {
		return withHint(fmt.Errorf("it is in podman's store %s", r.root), "use podman for it, or copy it: podman save "+id[:12]+" | sbx load")
	}
	return nil
}

// namesOf lists the names of an image.
func (ix index) namesOf(id string) []string {
	var names []string
	ix.entries(func(e entry) bool {
		if e.id == id && e.name != "" {
			names = append(names, e.name)
		}
		return true
	})
	return names
}
