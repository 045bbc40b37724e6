//go:build !hot

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig       = "application/vnd.docker.container.image.v1+json"
	dockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"

	maxLayers     = 499 // one overlay mount stacks 500, and one of them is of the run's
	maxIndexDepth = 2   // an index may name an index, which names manifests
)

// manifestTypes are what is asked of a registry.
func manifestTypes() []string {
	return []string{v1.MediaTypeImageManifest, v1.MediaTypeImageIndex, dockerManifest, dockerManifestList}
}

// manifest is a manifest or an index, never both: CVE-2021-41190.
type manifest struct {
	MediaType string
	Config    v1.Descriptor
	Layers    []v1.Descriptor
	Manifests []v1.Descriptor
}

func (m manifest) isIndex() bool { return isIndexType(m.MediaType) }

func isIndexType(mediaType string) bool {
	return mediaType == v1.MediaTypeImageIndex || mediaType == dockerManifestList
}

func isManifestType(mediaType string) bool {
	return mediaType == v1.MediaTypeImageManifest || mediaType == dockerManifest
}

// readManifest decodes hostile bytes. told is the media type that came with them, from
// a header or a descriptor; "" if nothing told.
func readManifest(body []byte, told string) (manifest, error) {
	m, err := decodeManifest(body, told)
	if err != nil {
		return manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

func decodeManifest(body []byte, told string) (manifest, error) {
	told, err := knownType(told)
	if err != nil {
		return manifest{}, err
	}
	keys, err := exactKeys(body)
	if err != nil {
		return manifest{}, err
	}
	var m struct {
		SchemaVersion int `json:"schemaVersion"`
		manifest
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return manifest{}, err
	}
	inside, err := knownType(m.MediaType)
	index, image := keys["manifests"], keys["layers"] || keys["config"]
	switch {
	case keys["fslayers"] || m.SchemaVersion == 1:
		return manifest{}, errSchema1()
	case err != nil:
		return manifest{}, err
	case m.SchemaVersion != 2:
		return manifest{}, fmt.Errorf("schemaVersion %d, not 2", m.SchemaVersion)
	case index && image:
		return manifest{}, errors.New("has both layers and manifests")
	case inside != "" && told != "" && inside != told:
		return manifest{}, fmt.Errorf("came as %s and says that it is %s", told, inside)
	}
	m.MediaType = inside
	if m.MediaType == "" {
		m.MediaType = told
	}
	switch {
	case m.MediaType == "" && index:
		m.MediaType = v1.MediaTypeImageIndex
	case m.MediaType == "" && image:
		m.MediaType = v1.MediaTypeImageManifest
	case m.MediaType == "":
		return manifest{}, errors.New("names neither layers nor other manifests")
	case index != isIndexType(m.MediaType), image != isManifestType(m.MediaType):
		return manifest{}, fmt.Errorf("its content is not that of %s", quoteShort(m.MediaType))
	}
	return m.manifest, m.check()
}

// knownType is the media type if it is one of ours, "" if it tells nothing.
func knownType(s string) (string, error) {
	kind, _, err := mime.ParseMediaType(s)
	if err != nil && s != "" {
		return "", fmt.Errorf("bad media type %s", quoteShort(s))
	}
	switch kind {
	case "", "application/json", "application/octet-stream", "text/plain", "binary/octet-stream":
		return "", nil
	case "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws":
		return "", errSchema1()
	}
	if isIndexType(kind) || isManifestType(kind) {
		return kind, nil
	}
	return "", fmt.Errorf("media type %s is not an image's", quoteShort(kind))
}

func errSchema1() error {
	return withHint(errors.New("docker schema 1, which is obsolete and cannot be verified"), "push the image again with a current tool")
}

// exactKeys are the members that matter. Go reads "Layers" as "layers", others do not:
// one manifest must not mean two images.
func exactKeys(body []byte) (map[string]bool, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for k := range members {
		switch lower := strings.ToLower(k); lower {
		case "schemaversion", "mediatype", "config", "layers", "manifests", "fslayers":
			if k != lower && k != "schemaVersion" && k != "mediaType" && k != "fsLayers" {
				return nil, fmt.Errorf("member %s is not spelled so", quoteShort(k))
			}
			keys[lower] = true
		}
	}
	return keys, nil
}

// check refuses what would become a bad path, an endless download or a surprise later.
// The urls and data of descriptors are never looked at.
func (m manifest) check() error {
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("%d layers, more than %d", len(m.Layers), maxLayers)
	}
	for _, d := range m.Manifests {
		if err := checkDescriptor(d); err != nil {
			return err
		}
	}
	if m.isIndex() {
		return nil
	}
	if err := checkDescriptor(m.Config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if t := m.Config.MediaType; t != v1.MediaTypeImageConfig && t != dockerConfig {
		return fmt.Errorf("its config is %s, not that of a container image", quoteShort(t))
	}
	for i, d := range m.Layers {
		err := checkDescriptor(d)
		if err == nil {
			err = checkLayerType(d.MediaType)
		}
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return nil
}

func checkDescriptor(d v1.Descriptor) error {
	if d.Size < 0 {
		return fmt.Errorf("size %d", d.Size)
	}
	_, err := parseDigest(string(d.Digest))
	return err
}

func checkLayerType(t string) error {
	switch t {
	case v1.MediaTypeImageLayer, v1.MediaTypeImageLayerGzip, v1.MediaTypeImageLayerZstd,
		"application/vnd.oci.image.layer.nondistributable.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
		dockerLayer, dockerLayer + ".gzip", dockerLayer + ".zstd",
		"application/vnd.docker.image.rootfs.foreign.diff.tar", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":
		return nil
	}
	if strings.HasSuffix(t, "+encrypted") {
		return errors.New("encrypted, and there is no key")
	}
	return fmt.Errorf("media type %s is not a layer's", quoteShort(t))
}

// readImageConfig reads the configuration and makes sure that it fits the manifest.
func readImageConfig(body []byte, m manifest) (v1.Image, error) {
	var c v1.Image
	if err := json.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("config: %w", err)
	}
	if c.RootFS.Type != "layers" && (c.RootFS.Type != "" || len(m.Layers) > 0) {
		return c, fmt.Errorf("config: rootfs type %s, not layers", quoteShort(c.RootFS.Type))
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return c, fmt.Errorf("config: %d diff_ids for %d layers", len(c.RootFS.DiffIDs), len(m.Layers))
	}
	for _, d := range c.RootFS.DiffIDs {
		if _, err := parseDigest(string(d)); err != nil {
			return c, fmt.Errorf("config: diff_id: %w", err)
		}
	}
	return c, nil
}

// checkBytes compares content with what a descriptor or a name promised.
func checkBytes(what string, body []byte, want digest.Digest) error {
	if got := want.Algorithm().FromBytes(body); got != want {
		return &digestError{what, want, got}
	}
	return nil
}

// digestError is content that is not what it was announced to be.
type digestError struct {
	what      string // "" if the message around it names the blob
	want, got digest.Digest
}

func (e *digestError) Error() string {
	if e.what == "" {
		return fmt.Sprintf("digest mismatch: the content is %s", e.got)
	}
	return fmt.Sprintf("%s %s: digest mismatch: the content is %s", e.what, e.want, e.got)
}
