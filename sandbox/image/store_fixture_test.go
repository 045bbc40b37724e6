//go:build !hot

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// inTar is an entry of a layer that a test makes.
type inTar struct {
	name  string
	kind  byte // 0 is a file, or a directory if the name ends with a slash
	body  string
	mode  int64
	uid   int
	gid   int
	link  string
	xattr map[string]string
}

func (f inTar) header() *tar.Header {
	h := &tar.Header{Name: f.name, Typeflag: f.kind, Mode: f.mode, Uid: f.uid, Gid: f.gid, Linkname: f.link, Size: int64(len(f.body)), Format: tar.FormatPAX}
	if f.kind == 0 {
		h.Typeflag = tar.TypeReg
		if f.name[len(f.name)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
	}
	if f.mode == 0 {
		h.Mode = 0o755
	}
	for k, v := range f.xattr {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+k] = v
	}
	return h
}

func layerOf(t *testing.T, files ...inTar) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(f.header()); err != nil {
			t.Fatal(f.name, err)
		}
		if _, err := w.Write([]byte(f.body)); err != nil {
			t.Fatal(f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// fetchedOf is an image of the given tars, as it comes from a registry.
func fetchedOf(t *testing.T, name string, tars ...[]byte) *Fetched {
	t.Helper()
	dir := t.TempDir()
	var config v1.Image
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Env = []string{"PATH=/bin"}
	config.Config.Cmd = []string{"/bin/sh"}
	config.Config.Labels = map[string]string{"name": name}
	config.RootFS.Type = "layers"
	f := &Fetched{Ref: name, MediaType: v1.MediaTypeImageManifest}
	if name != "" {
		f.Names = []string{name}
	}
	var m v1.Manifest
	for i, layer := range tars {
		blob := gz(t, layer)
		file := filepath.Join(dir, digest.FromBytes(blob).Encoded())
		if err := os.WriteFile(file, blob, 0o600); err != nil {
			t.Fatal(err)
		}
		d := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
		m.Layers = append(m.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(layer))
		f.Layers = append(f.Layers, Layer{
			Digest: d.Digest, DiffID: config.RootFS.DiffIDs[i], Size: d.Size, MediaType: d.MediaType,
			Open: func(context.Context) (*os.File, error) { return os.Open(file) },
		})
	}
	f.setConfig(t, config, m)
	return f
}

func (f *Fetched) setConfig(t *testing.T, config v1.Image, m v1.Manifest) {
	t.Helper()
	var err error
	if f.Config, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	m.SchemaVersion = 2
	m.MediaType = f.MediaType
	m.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(f.Config), Size: int64(len(f.Config))}
	if f.Manifest, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	f.Digest = digest.FromBytes(f.Manifest)
}

// newStore is an empty store of the test's own; podman's is not seen.
func newStore(t *testing.T) *Store {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	s, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.wipe(t) })
	return s
}

// put brings an image in and lets go of it.
func put(t *testing.T, s *Store, f *Fetched) *Image {
	t.Helper()
	img, err := s.Put(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	img.Lock.Close()
	return img
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
