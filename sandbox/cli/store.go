//go:build !hot

package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sbx/sandbox/image"
)

// find looks for an image that the store has, by what a person calls it: a whole name, a
// short one, an id or the beginning of one. The caller releases it.
func find(store *image.Store, ref string) (*image.Image, error) {
	regs, err := image.LoadRegistries()
	if err != nil {
		return nil, err
	}
	names, err := regs.Candidates(ref)
	if err != nil {
		return nil, err
	}
	for _, name := range append(names, strings.TrimPrefix(ref, "sha256:")) {
		img, err := store.Find(name)
		if !errors.Is(err, image.ErrNotFound) {
			return img, err
		}
	}
	return nil, fmt.Errorf("image %s: %w", quoteArg(ref), image.ErrNotFound)
}

// release lets go of an image: it may be removed again.
func release(img *image.Image) {
	if img.Lock != nil {
		img.Lock.Close()
	}
}

// listImages is all of the store, as the listing commands want it.
func (a *app) listImages() ([]imageEntry, error) {
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	list, err := store.List()
	if err != nil {
		return nil, err
	}
	entries := make([]imageEntry, len(list))
	for i, s := range list {
		entries[i] = newEntry(s)
	}
	return entries, nil
}

func newEntry(s image.Summary) imageEntry {
	e := imageEntry{
		ID: s.ID, Names: s.Names, RepoTags: []string{}, RepoDigests: []string{},
		Size: s.Size, VirtualSize: s.Size, Created: s.Created.Unix(), CreatedAt: s.Created,
		Labels: s.Labels, Dangling: s.Dangling, ReadOnly: s.ReadOnly, Arch: s.Arch, OS: s.OS,
	}
	if e.Names == nil {
		e.Names = []string{}
	}
	if s.Created.IsZero() {
		e.Created = 0
	}
	if len(s.Digests) > 0 {
		e.Digest = s.Digests[0].String()
	}
	for _, name := range s.Names {
		repo, tag := splitName(name)
		if tag != "" {
			e.RepoTags = append(e.RepoTags, name)
		}
		for _, d := range s.Digests {
			if full := repo + "@" + d.String(); !slices.Contains(e.RepoDigests, full) {
				e.RepoDigests = append(e.RepoDigests, full)
			}
		}
	}
	return e
}

// splitName cuts the tag, or the digest, off a full reference.
func splitName(name string) (repo, tag string) {
	repo, _, byDigest := strings.Cut(name, "@")
	if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') {
		repo, tag = repo[:i], repo[i+1:]
	}
	if byDigest {
		tag = ""
	}
	return repo, tag
}
