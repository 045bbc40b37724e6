//go:build !hot

package image

import (
	"fmt"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// variants that run on p, best first.
func (p Platform) variants() []string {
	order := map[string][]string{
		"arm":   {"v8", "v7", "v6", "v5", ""},
		"arm64": {"v9", ""},
		"amd64": {"v4", "v3", "v2", ""},
	}[p.Arch]
	if i := slices.Index(order, p.Variant); i >= 0 {
		return order[i:]
	}
	return []string{p.Variant}
}

// choose picks from an index what runs on p: the best variant; else, of entries that
// tell no platform, the first.
func (p Platform) choose(list []v1.Descriptor) (v1.Descriptor, error) {
	var offered []string
	for _, variant := range p.variants() {
		for _, d := range list {
			if d.Platform == nil || isAttestation(d) {
				continue
			}
			has := Platform{d.Platform.OS, d.Platform.Architecture, d.Platform.Variant}.normalized()
			if has.OS == p.OS && has.Arch == p.Arch && has.Variant == variant {
				return d, nil
			}
		}
	}
	for _, d := range list {
		if d.Platform == nil && !isAttestation(d) {
			return d, nil
		}
	}
	for _, d := range list {
		if !isAttestation(d) && len(offered) < 20 {
			has := Platform{d.Platform.OS, d.Platform.Architecture, d.Platform.Variant}.normalized()
			offered = append(offered, quoteless(has.String()))
		}
	}
	if len(offered) == 0 {
		return v1.Descriptor{}, fmt.Errorf("no image for %s in the index, which is empty", p)
	}
	return v1.Descriptor{}, withHint(fmt.Errorf("no image for %s in the index", p), "it has "+strings.Join(slices.Compact(offered), ", "))
}

// isAttestation: what buildx puts beside images, for the platform unknown/unknown.
func isAttestation(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] != "" || d.Platform != nil && d.Platform.OS == "unknown"
}
