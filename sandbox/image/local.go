//go:build !hot

package image

import (
	"context"
	"fmt"
)

// pullLocal brings an image from a file or directory in. It is read and checked each time: a
// path says nothing about what lies there today.
func pullLocal(ctx context.Context, s layerStore, opts PullOptions, src Source) (*Image, error) {
	p, err := newPull(s, opts)
	if err != nil {
		return nil, err
	}
	defer p.out.wait()
	img, err := p.local(ctx, src)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", src, p.advised(err))
	}
	return img, nil
}

// advised says what helps against a full disk. Other errors may be of the source.
func (p *pull) advised(err error) error {
	if full(err) {
		return advised(err, p.store.Dir())
	}
	return err
}

func (p *pull) local(ctx context.Context, src Source) (*Image, error) {
	switch src.Transport {
	case "docker-archive", "oci-archive":
		t, err := openArchive(ctx, src.Path, p.blobs)
		if err != nil {
			return nil, err
		}
		defer t.close()
		if src.Transport == "oci-archive" {
			return p.fromLayout(ctx, t, src)
		}
		return p.fromDockerArchive(ctx, t, src)
	}
	t, err := openDir(src.Path)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if src.Transport == "oci" {
		return p.fromLayout(ctx, t, src)
	}
	return p.fromLocal(ctx, src.String(), &localImage{localCarrier: &dirImage{t, p.blobs}})
}

func (p *pull) fromDockerArchive(ctx context.Context, t *tarTree, src Source) (*Image, error) {
	a, err := readDockerArchive(t, p.blobs)
	if err != nil {
		return nil, err
	}
	item, err := a.pick(src.Ref)
	if err != nil {
		return nil, err
	}
	local, err := a.image(ctx, item)
	if err != nil {
		return nil, err
	}
	return p.fromLocal(ctx, src.String(), local)
}

func (p *pull) fromLayout(ctx context.Context, t tree, src Source) (*Image, error) {
	l, err := readLayout(t, p.blobs)
	if err != nil {
		return nil, err
	}
	local, err := l.pick(src.Ref)
	if err != nil {
		return nil, err
	}
	return p.fromLocal(ctx, src.String(), local)
}

func (p *pull) fromLocal(ctx context.Context, ref string, local *localImage) (*Image, error) {
	f, err := locate(ctx, local, local.pin, p.Platform)
	if err != nil {
		return nil, err
	}
	if err := local.check(ctx, f.m.Layers); err != nil {
		return nil, err
	}
	f.Ref, f.Names = ref, local.names
	return p.keep(ctx, f)
}
