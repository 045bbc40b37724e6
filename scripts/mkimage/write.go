package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func (o *options) write(images []v1.Image, dest string) error {
	kind, file, ok := strings.Cut(dest, ":")
	if ok {
		switch kind {
		case "docker-archive":
			return writeDockerArchive(images, file)
		case "oci-archive":
			return writeOCIArchive(images, file)
		case "oci":
			return writeLayout(images, file)
		case "dir":
			return writeDir(images, file)
		}
	}
	return o.push(images, dest)
}

func (o *options) push(images []v1.Image, dest string) error {
	ref, err := name.ParseReference(dest)
	if err != nil {
		return err
	}
	auth := remote.WithAuth(authn.Anonymous)
	if o.username != "" {
		auth = remote.WithAuth(&authn.Basic{Username: o.username, Password: o.password})
	}
	if len(images) == 1 {
		return remote.Write(ref, images[0], auth)
	}
	all, err := index(images)
	if err != nil {
		return err
	}
	return remote.WriteIndex(ref, all, auth)
}

// index says of each image which platform it is for.
func index(images []v1.Image) (v1.ImageIndex, error) {
	var adds []mutate.IndexAddendum
	for _, image := range images {
		config, err := image.ConfigFile()
		if err != nil {
			return nil, err
		}
		adds = append(adds, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: config.Platform()}})
	}
	return mutate.AppendManifests(empty.Index, adds...), nil
}

func writeDockerArchive(images []v1.Image, dest string) error {
	if len(images) != 1 {
		return errors.New("an archive of docker holds one platform")
	}
	file, repo, ok := strings.Cut(dest, ":")
	if !ok {
		repo = "sbx.test/" + strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)) + ":latest"
	}
	ref, err := name.NewTag(repo)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, ref, images[0])
}

func writeLayout(images []v1.Image, dir string) error {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if len(images) > 1 {
		all, err := index(images)
		if err != nil {
			return err
		}
		return path.AppendIndex(all)
	}
	return path.AppendImage(images[0])
}

// writeOCIArchive writes a tar of a layout.
func writeOCIArchive(images []v1.Image, file string) error {
	dir, err := os.MkdirTemp("", "mkimage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := writeLayout(images, dir); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	return errors.Join(w.Close(), f.Close())
}

// writeDir writes the format of skopeo's dir:, the blobs under their bare hashes.
func writeDir(images []v1.Image, dir string) error {
	if len(images) != 1 {
		return errors.New("dir: holds one platform")
	}
	image := images[0]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	var m v1.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return err
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"version":           []byte("Directory Transport Version: 1.1\n"),
		"manifest.json":     manifest,
		m.Config.Digest.Hex: config,
	}
	for file, data := range files {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o644); err != nil {
			return err
		}
	}
	for _, d := range m.Layers {
		if err := writeBlob(image, d.Digest, filepath.Join(dir, d.Digest.Hex)); err != nil {
			return fmt.Errorf("%s: %w", d.Digest, err)
		}
	}
	return nil
}

func writeBlob(image v1.Image, digest v1.Hash, file string) error {
	layer, err := image.LayerByDigest(digest)
	if err != nil {
		return err
	}
	r, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, r)
	return err
}
