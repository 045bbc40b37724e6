package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
	DockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
)

// Options of an image that a test wants.
type Options struct {
	Docker      bool   // schema 2 instead of OCI
	Compression string // of the layers: "", gzip, zstd
	Platform    v1.Platform
	Layers      [][]byte // tar archives; Tar makes some
	Change      func(config *v1.Image, manifest *v1.Manifest)
}

// Image is an image as bytes.
type Image struct {
	MediaType string
	Manifest  []byte
	Config    []byte
	Layers    [][]byte // as they travel
	Tars      [][]byte // uncompressed
	Platform  v1.Platform
}

// Digest of the manifest.
func (i *Image) Digest() digest.Digest { return digest.FromBytes(i.Manifest) }

// ID is the digest of the configuration.
func (i *Image) ID() digest.Digest { return digest.FromBytes(i.Config) }

// Descriptor of the image, for an index.
func (i *Image) Descriptor() v1.Descriptor {
	p := i.Platform
	return v1.Descriptor{MediaType: i.MediaType, Digest: i.Digest(), Size: int64(len(i.Manifest)), Platform: &p}
}

// NewImage makes an image of the options.
func NewImage(o Options) *Image {
	if o.Platform.OS == "" {
		o.Platform = v1.Platform{OS: "linux", Architecture: "amd64"}
	}
	img := &Image{MediaType: v1.MediaTypeImageManifest, Tars: o.Layers, Platform: o.Platform}
	config := v1.Image{Platform: o.Platform, RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	m := v1.Manifest{MediaType: img.MediaType, Layers: []v1.Descriptor{}}
	m.SchemaVersion = 2
	for _, layer := range o.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(layer))
		blob := compress(layer, o.Compression)
		img.Layers = append(img.Layers, blob)
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: layerType(o), Digest: digest.FromBytes(blob), Size: int64(len(blob))})
	}
	m.Config.MediaType = v1.MediaTypeImageConfig
	if o.Docker {
		img.MediaType, m.MediaType, m.Config.MediaType = DockerManifest, DockerManifest, DockerConfig
	}
	if o.Change != nil {
		o.Change(&config, nil)
	}
	img.Config = mustJSON(config)
	m.Config.Digest, m.Config.Size = digest.FromBytes(img.Config), int64(len(img.Config))
	if o.Change != nil {
		o.Change(nil, &m)
	}
	img.Manifest = mustJSON(m)
	return img
}

func layerType(o Options) string {
	base, sep := v1.MediaTypeImageLayer, "+"
	if o.Docker {
		base, sep = DockerLayer, "."
	}
	if o.Compression == "" {
		return base
	}
	return base + sep + o.Compression
}

func compress(data []byte, how string) []byte {
	var b bytes.Buffer
	switch how {
	case "gzip":
		w := gzip.NewWriter(&b)
		w.Write(data)
		w.Close()
	case "zstd":
		w, err := zstd.NewWriter(&b)
		if err != nil {
			panic(err)
		}
		w.Write(data)
		w.Close()
	default:
		return data
	}
	return b.Bytes()
}

// Index makes an index of descriptors, as OCI's or docker's.
func Index(docker bool, list ...v1.Descriptor) (mediaType string, body []byte) {
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: list}
	if docker {
		index.MediaType = DockerManifestList
	}
	index.SchemaVersion = 2
	return index.MediaType, mustJSON(index)
}

// Tar makes an archive of files, by path, in order.
func Tar(files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name]))}); err != nil {
			panic(err)
		}
		w.Write([]byte(files[name]))
	}
	w.Close()
	return b.Bytes()
}

// Noise is a layer of one file of n bytes that do not compress, the same for the same seed.
func Noise(seed uint32, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		seed = seed*1664525 + 1013904223
		data[i] = byte(seed >> 24)
	}
	return Tar(map[string]string{"noise": string(data)})
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
