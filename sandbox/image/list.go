//go:build !hot

package image

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Summary is one image of a list.
type Summary struct {
	ID       string
	Names    []string // full references; none if Dangling
	Digests  []digest.Digest
	Created  time.Time // by its configuration; the zero time if that does not tell
	Size     int64     // of the unpacked layers, shared ones included
	Dangling bool
	Labels   map[string]string
	OS, Arch string
	ReadOnly bool // in podman's store, or one that podman adds to it
}

// List returns all images, the youngest first.
func (s *Store) List() ([]Summary, error) {
	ix, err := s.openIndex()
	if err != nil {
		return nil, err
	}
	byID := map[string]*Summary{}
	var all []*Summary
	ix.entries(func(e entry) bool {
		sum := byID[e.id]
		if sum == nil {
			sum = &Summary{ID: e.id}
			for d := range strings.SplitSeq(e.digests, ",") {
				if d != "" {
					sum.Digests = append(sum.Digests, digest.Digest(d))
				}
			}
			byID[e.id] = sum
			all = append(all, sum)
		}
		if e.name != "" {
			sum.Names = append(sum.Names, e.name)
		}
		return true
	})
	list := make([]Summary, 0, len(all))
	for _, sum := range all {
		switch err := s.complete(sum); {
		case err == nil:
			list = append(list, *sum)
		case !errors.Is(err, errStale): // else it was removed just now
			return nil, err
		}
	}
	slices.SortStableFunc(list, func(a, b Summary) int { return b.Created.Compare(a.Created) })
	return list, nil
}

// complete adds what the image's record knows.
func (s *Store) complete(sum *Summary) error {
	r, held, err := s.hold(sum.ID)
	if err != nil {
		return err
	}
	defer held.Close()
	if r.config.Created != nil {
		sum.Created = *r.config.Created
	}
	sum.Size = r.size
	sum.Dangling = len(sum.Names) == 0
	sum.Labels = r.config.Config.Labels
	sum.OS, sum.Arch = r.config.OS, r.config.Architecture
	sum.ReadOnly = r.root != s.path("storage")
	return nil
}

// Info is about the store as a whole.
type Info struct {
	Driver   string // of the storage library
	Root     string // the library's directory
	Images   int    // all of them
	ReadOnly int    // those in podman's stores
	Podman   []string
}

// Info counts what is there.
func (s *Store) Info() (Info, error) {
	in := Info{Driver: "overlay", Root: s.path("storage"), Podman: podmanStores()}
	list, err := s.List()
	for _, sum := range list {
		in.Images++
		if sum.ReadOnly {
			in.ReadOnly++
		}
	}
	return in, err
}
