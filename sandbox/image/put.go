//go:build !hot

package image

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// putRequest is an image as sbx-store gets it. The layers follow.
type putRequest struct {
	ID       digest.Digest // of Config
	Names    []string
	Digest   digest.Digest // of Manifest
	Manifest []byte
	Config   []byte
	Blobs    []digest.Digest // bottom first
	DiffIDs  []digest.Digest
}

// Put brings an image into the store, with its names: the whole of it, or nothing. It
// opens the layers that the store does not have, in any order and several at a time.
func (s *Store) Put(ctx context.Context, f *Fetched) (*Image, error) {
	p, err := newPutRequest(f)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", f.Ref, err)
	}
	err = s.ask(ctx, request{Op: "put", Put: p}, f.Layers)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", f.Ref, err)
	}
	img, err := s.Find(p.ID.Encoded())
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", f.Ref, err)
	}
	img.Digest = f.Digest // of several manifests that have led to it, this one
	if len(f.Names) > 0 {
		img.Name = f.Names[0]
	}
	return img, nil
}

func newPutRequest(f *Fetched) (*putRequest, error) {
	var config v1.Image
	if err := json.Unmarshal(f.Config, &config); err != nil {
		return nil, fmt.Errorf("image configuration: %w", err)
	}
	ids := config.RootFS.DiffIDs
	if len(ids) != len(f.Layers) {
		return nil, fmt.Errorf("image configuration: %d layers, the manifest has %d", len(ids), len(f.Layers))
	}
	if len(ids) > maxLayers {
		return nil, withHint(fmt.Errorf("%d layers, and more than %d cannot be stacked", len(ids), maxLayers), "build the image with fewer layers (--squash)")
	}
	p := &putRequest{
		ID: digest.FromBytes(f.Config), Names: f.Names, Digest: f.Digest,
		Manifest: f.Manifest, Config: f.Config, DiffIDs: ids,
	}
	for i, layer := range f.Layers {
		if _, err := parseDigest(ids[i].String()); err != nil {
			return nil, fmt.Errorf("image configuration: layer %d: %w", i, err)
		}
		if ids[i].Algorithm() != digest.SHA256 {
			return nil, fmt.Errorf("image configuration: layer %d: %s is not sha256", i, ids[i])
		}
		if layer.DiffID != "" && layer.DiffID != ids[i] {
			return nil, fmt.Errorf("layer %d: is %s, the image configuration says %s", i, layer.DiffID, ids[i])
		}
		p.Blobs = append(p.Blobs, layer.Digest)
	}
	return p, nil
}
