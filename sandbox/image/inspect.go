//go:build !hot

package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Inspection is what podman image inspect prints of an image, under its names.
type Inspection struct {
	ID           string            `json:"Id"`
	Digest       digest.Digest     `json:"Digest"`
	RepoTags     []string          `json:"RepoTags"`
	RepoDigests  []string          `json:"RepoDigests"`
	Parent       string            `json:"Parent"` // always "": no image is built here
	Comment      string            `json:"Comment"`
	Created      *time.Time        `json:"Created"`
	Config       *v1.ImageConfig   `json:"Config"`
	Version      string            `json:"Version"`
	Author       string            `json:"Author"`
	Architecture string            `json:"Architecture"`
	Variant      string            `json:"Variant,omitempty"`
	Os           string            `json:"Os"`
	Size         int64             `json:"Size"`
	VirtualSize  int64             `json:"VirtualSize"`
	GraphDriver  GraphDriver       `json:"GraphDriver"`
	RootFS       RootFS            `json:"RootFS"`
	Labels       map[string]string `json:"Labels"`
	Annotations  map[string]string `json:"Annotations"`
	ManifestType string            `json:"ManifestType"`
	User         string            `json:"User"`
	History      []v1.History      `json:"History"`
	NamesHistory []string          `json:"NamesHistory"`
}

// GraphDriver says where the layers lie.
type GraphDriver struct {
	Name string
	Data map[string]string
}

// RootFS lists the layers by what they contain.
type RootFS struct {
	Type   string
	Layers []digest.Digest
}

// Inspect tells everything about an image, found as Find does.
func (s *Store) Inspect(name string) (*Inspection, error) {
	img, err := s.Find(name)
	if err != nil {
		return nil, err
	}
	defer img.Lock.Close()
	i, err := s.inspect(img)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", quoteless(name), err)
	}
	return i, nil
}

func (s *Store) inspect(img *Image) (*Inspection, error) {
	r, held, err := s.hold(img.ID)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	l, err := readImages(r.libraryAt)
	if err != nil {
		return nil, err
	}
	has, ok := l.image(img.ID)
	if !ok {
		return nil, ErrNotFound
	}
	text, err := l.data(img.ID, "sha256:"+img.ID)
	if err != nil {
		return nil, err
	}
	var config struct {
		v1.Image
		Comment       string `json:"comment"`
		DockerVersion string `json:"docker_version"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("image configuration: %w", err)
	}
	i := &Inspection{
		ID: img.ID, Digest: img.Digest, RepoTags: []string{}, RepoDigests: []string{},
		Comment: config.Comment, Created: config.Created, Config: &config.Config, Version: config.DockerVersion,
		Author: config.Author, Architecture: config.Architecture, Variant: config.Variant, Os: config.OS,
		Size: r.size, VirtualSize: r.size,
		GraphDriver: GraphDriver{r.driver, map[string]string{}},
		RootFS:      RootFS{config.RootFS.Type, config.RootFS.DiffIDs},
		Labels:      config.Config.Labels, User: config.Config.User, History: config.History, NamesHistory: has.History,
	}
	if len(r.layers) > 0 {
		i.GraphDriver.Data["UpperDir"] = r.layers[0]
	}
	if len(r.layers) > 1 {
		i.GraphDriver.Data["LowerDir"] = strings.Join(r.layers[1:], ":")
	}
	i.names(has)
	// An image of an older library may not have it; all else is known.
	if manifest, err := l.data(img.ID, "manifest"); err == nil {
		i.manifest(manifest)
	}
	return i, nil
}

// names sorts tags from digests; each repository is one for every digest.
func (i *Inspection) names(has libraryImage) {
	repos := map[string]struct{}{}
	for _, name := range has.Names {
		if !strings.Contains(name, "@") {
			i.RepoTags = append(i.RepoTags, name)
		}
		repos[repositoryOf(name)] = struct{}{}
	}
	for _, repo := range slices.Sorted(maps.Keys(repos)) {
		for _, d := range has.Digests {
			i.RepoDigests = append(i.RepoDigests, repo+"@"+d.String())
		}
	}
}

func (i *Inspection) manifest(text []byte) {
	var m v1.Manifest
	if json.Unmarshal(text, &m) != nil {
		return
	}
	i.Annotations, i.ManifestType = m.Annotations, m.MediaType
	if i.ManifestType == "" { // optional in OCI's, obligatory in Docker's
		i.ManifestType = v1.MediaTypeImageManifest
	}
}
