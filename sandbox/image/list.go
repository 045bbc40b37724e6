//go:build !hot

package image

import (
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
func (s *Store) List() (list []Summary, err error) {
	err = s.fresh(func(ix index) error {
		list, err = s.summaries(ix)
		return err
	})
	slices.SortStableFunc(list, func(a, b Summary) int { return b.Created.Compare(a.Created) })
	return list, err
}

func (s *Store) summaries(ix index) ([]Summary, error) {
	var list []Summary
	at := map[string]int{}
	for e := range ix.entries {
		i, seen := at[e.id]
		if !seen {
			i = len(list)
			at[e.id] = i
			sum := Summary{ID: e.id}
			for d := range strings.SplitSeq(e.digests, ",") {
				if d != "" {
					sum.Digests = append(sum.Digests, digest.Digest(d))
				}
			}
			if err := s.complete(&sum); err != nil {
				return nil, err
			}
			list = append(list, sum)
		}
		if e.name != "" {
			list[i].Names = append(list[i].Names, e.name)
			list[i].Dangling = false
		}
	}
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
	sum.Dangling = true // until it has a name
	sum.Labels = r.config.Config.Labels
	sum.OS, sum.Arch = r.config.OS, r.config.Architecture
	sum.ReadOnly = r.libraryAt != s.library()
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
	in := Info{Driver: s.library().driver, Root: s.library().root}
	for _, at := range podmanStores() {
		if !slices.Contains(in.Podman, at.root) {
			in.Podman = append(in.Podman, at.root)
		}
	}
	list, err := s.List()
	for _, sum := range list {
		in.Images++
		if sum.ReadOnly {
			in.ReadOnly++
		}
	}
	return in, err
}
