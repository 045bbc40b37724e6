//go:build !hot

package image

import (
	"context"
	"fmt"
	"slices"
)

// AddNames gives an image further names, full references. A name that another image has
// moves.
func (s *Store) AddNames(id string, names ...string) error {
	return s.rename("name", "tag", id, names)
}

// Untag takes names away from an image; without names, all it has. It stays, unnamed.
func (s *Store) Untag(image string, names ...string) error {
	ix, err := s.openIndex()
	if err != nil {
		return err
	}
	e, err := ix.find(image)
	if err != nil {
		return err
	}
	has := ix.namesOf(e.id)
	for _, name := range names {
		if !slices.Contains(has, name) {
			return fmt.Errorf("untag %s: %s: not a name of this image", quoteless(image), quoteless(name))
		}
	}
	if len(names) == 0 {
		names = has
	}
	return s.rename("unname", "untag", e.id, names)
}

func (s *Store) rename(op, verb, image string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if n, err := parse(name); err != nil || n.String() != name {
			return fmt.Errorf("%s %s: %s is not a full reference: bug in sbx", verb, image, quoteShort(name))
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
		return fmt.Errorf("%s %s: %w", verb, quoteless(image), err)
	}
	if err := s.ask(context.Background(), request{Op: op, ID: e.id, Names: names}, nil); err != nil {
		return fmt.Errorf("%s %s: %w", verb, quoteless(image), err)
	}
	return nil
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
