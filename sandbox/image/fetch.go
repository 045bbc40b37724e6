//go:build !hot

package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// carrier is a place that holds the manifests and blobs of an image: a registry, an
// archive, a directory. What it returns is hostile; fetch checks it.
type carrier interface {
	// manifest returns the bytes of a manifest, and the media type that came with them.
	// The digest is "" for the one that the source's name means.
	manifest(ctx context.Context, d digest.Digest) (body []byte, mediaType string, err error)
	// config returns the bytes of a small blob.
	config(ctx context.Context, d v1.Descriptor) ([]byte, error)
	// layers returns, for each layer, how to open it: with its digest checked.
	layers(list []v1.Descriptor) []func(context.Context) (*os.File, error)
}

// fetched is a Fetched on its way, and what only Pull wants to know.
type fetched struct {
	Fetched
	id digest.Digest // of the configuration

	c     carrier
	m     manifest
	asked Platform
}

// locate follows a name to the manifest of an image for one platform, through indexes. pin
// is the digest that the name promised, or "". The configuration and the layers come later,
// for an image that the store turns out not to have.
func locate(ctx context.Context, c carrier, pin digest.Digest, asked Platform) (*fetched, error) {
	body, m, err := fetchManifest(ctx, c, pin)
	if err != nil {
		return nil, err
	}
	for depth := 0; m.isIndex(); depth++ {
		if depth == maxIndexDepth {
			return nil, fmt.Errorf("manifest: indexes nested more than %d deep", maxIndexDepth)
		}
		d, err := asked.complete().choose(m.Manifests)
		if err != nil {
			return nil, err
		}
		if body, m, err = fetchChild(ctx, c, d); err != nil {
			return nil, err
		}
	}
	f := &fetched{id: m.Config.Digest, c: c, m: m, asked: asked}
	f.Digest = digest.FromBytes(body)
	if pin != "" && !isSHA256(pin) && checkBytes("manifest", body, pin) == nil {
		f.Digest = pin
	}
	f.MediaType, f.Manifest = m.MediaType, body
	return f, nil
}

// fetch gets the configuration, and the layers' places.
func (f *fetched) fetch(ctx context.Context) error {
	config, err := fetchConfig(ctx, f.c, f.m.Config)
	if err != nil {
		return err
	}
	decoded, err := readImageConfig(config, f.m)
	if err != nil {
		return err
	}
	if err := checkPlatform(decoded, f.asked); err != nil {
		return err
	}
	f.Config = config
	open := f.c.layers(f.m.Layers)
	for i, d := range f.m.Layers {
		f.Layers = append(f.Layers, Layer{
			Digest: d.Digest, DiffID: decoded.RootFS.DiffIDs[i], Size: d.Size, MediaType: d.MediaType, Open: open[i],
		})
	}
	return nil
}

func isSHA256(d digest.Digest) bool { return d.Algorithm() == digest.SHA256 }

func fetchManifest(ctx context.Context, c carrier, pin digest.Digest) ([]byte, manifest, error) {
	body, told, err := c.manifest(ctx, "")
	if err != nil {
		return nil, manifest{}, err
	}
	if pin != "" {
		if err := checkBytes("manifest", body, pin); err != nil {
			return nil, manifest{}, err
		}
	}
	m, err := readManifest(body, told)
	return body, m, err
}

// fetchChild gets the manifest that an index names; it must be what the index said.
func fetchChild(ctx context.Context, c carrier, d v1.Descriptor) ([]byte, manifest, error) {
	if d.Size > maxManifest {
		return nil, manifest{}, fmt.Errorf("manifest %s: %d bytes, more than %d", d.Digest, d.Size, maxManifest)
	}
	body, told, err := c.manifest(ctx, d.Digest)
	if err != nil {
		return nil, manifest{}, fmt.Errorf("manifest %s, which the index names: %w", d.Digest, err)
	}
	if err := checkBytes("manifest", body, d.Digest); err != nil {
		return nil, manifest{}, err
	}
	if int64(len(body)) != d.Size {
		return nil, manifest{}, fmt.Errorf("manifest %s: %d bytes, and the index says %d", d.Digest, len(body), d.Size)
	}
	kind, err := knownType(told)
	if err == nil && kind != "" && d.MediaType != "" && kind != d.MediaType {
		err = fmt.Errorf("came as %s, and the index says %s", kind, quoteShort(d.MediaType))
	}
	if err != nil {
		return nil, manifest{}, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	m, err := readManifest(body, cmp.Or(d.MediaType, kind))
	return body, m, err
}

func fetchConfig(ctx context.Context, c carrier, d v1.Descriptor) ([]byte, error) {
	if d.Size > maxManifest {
		return nil, fmt.Errorf("config %s: %d bytes, more than %d", d.Digest, d.Size, maxManifest)
	}
	body, err := c.config(ctx, d)
	if err != nil {
		return nil, err
	}
	if err := checkBytes("config", body, d.Digest); err != nil {
		return nil, err
	}
	if int64(len(body)) != d.Size {
		return nil, fmt.Errorf("config %s: %d bytes, and the manifest says %d", d.Digest, len(body), d.Size)
	}
	return body, nil
}

// checkPlatform refuses an image of another system, or of another platform than was asked for.
func checkPlatform(c v1.Image, asked Platform) error {
	has, want := Platform{c.OS, c.Architecture, c.Variant}.normalized(), asked.complete()
	if has.OS != "" && has.OS != "linux" {
		return fmt.Errorf("the image is for %s", quoteless(has.OS))
	}
	if asked == (Platform{}) || has.Arch == "" || has.OS == want.OS && has.Arch == want.Arch {
		return nil
	}
	return fmt.Errorf("the image is for %s, not for %s", quoteless(has.String()), want)
}

// errShort is a transfer that ended before its time.
var errShort = errors.New("the connection ended early")
