//go:build !hot

package image

import (
	"errors"
	"fmt"
	"strings"
)

// Resolution is what a reference may mean, most likely first.
type Resolution struct {
	Names []Name
	Note  string // what the person should be told, once; "" if nothing was guessed
}

// Resolve completes a short name, by the aliases and the search list of registries.conf.
// Where no file has an opinion it is docker.io's, and the Note says so.
func (r *Registries) Resolve(ref string) (Resolution, error) {
	n, err := parse(ref)
	if err != nil {
		return Resolution{}, err
	}
	if n.Registry != "" {
		return Resolution{Names: []Name{n}}, nil
	}
	if len(n.Path) == 64 && isHex(n.Path) {
		return Resolution{}, fmt.Errorf("image name %s: looks like an image id, which no registry knows", quoteShort(ref))
	}
	if full := r.aliases[n.Path]; full != "" {
		alias, err := parse(full)
		if err != nil {
			return Resolution{}, err
		}
		alias.Tag, alias.Digest = n.Tag, n.Digest
		return Resolution{Names: []Name{alias}}, nil
	}
	switch {
	case !r.decided:
		full := n.in("docker.io")
		return Resolution{
			Names: []Name{full},
			Note:  fmt.Sprintf("%s is a short name, taken as %s", ref, full),
		}, nil
	case len(r.search) == 0:
		return Resolution{}, withHint(fmt.Errorf("short name %s: registries.conf has an empty unqualified-search-registries", ref),
			"write the whole name, as in docker.io/library/busybox")
	case len(r.search) > 1 && r.mode == "enforcing":
		return Resolution{}, withHint(fmt.Errorf("short name %s: could be of %s, and short-name-mode is enforcing", ref, strings.Join(r.search, ", ")),
			"write the whole name, or an alias into registries.conf")
	}
	var names []Name
	for _, host := range r.search {
		names = append(names, n.in(host))
	}
	return Resolution{Names: names}, nil
}

// shortsOf are the names without a registry, with their tag, that may mean a full one.
func (r *Registries) shortsOf(full string) []string {
	n, err := parse(full)
	if err != nil || n.Digest != "" {
		return nil
	}
	shorts := []string{n.Path + n.suffix()}
	if path, ok := strings.CutPrefix(n.Path, "library/"); ok && n.Registry == "docker.io" {
		shorts = append(shorts, path+n.suffix())
	}
	for alias, target := range r.aliases {
		if t, err := parse(target); err == nil && t.repository() == n.repository() {
			shorts = append(shorts, alias+n.suffix())
		}
	}
	return shorts
}

// Candidates are the names under which the store may hold ref: a local image comes before
// one of a registry, so that a person can run what they have just tagged.
func (r *Registries) Candidates(ref string) ([]string, error) {
	n, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if n.Registry != "" {
		return []string{n.String()}, nil
	}
	names := []string{n.in("localhost").String()}
	resolved, err := r.Resolve(ref)
	if err != nil && !errors.As(err, new(*hinted)) && len(n.Path) != 64 {
		return nil, err
	}
	for _, full := range resolved.Names {
		names = append(names, full.String())
	}
	return names, nil
}
