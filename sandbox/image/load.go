//go:build !hot

package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// LoadOptions is what sbx load asks for.
type LoadOptions struct {
	Input    string    // an archive or directory, with or without TRANSPORT:; "" is Stdin
	Stdin    io.Reader // read to its end
	Platform Platform
	Out      io.Writer
	Quiet    bool
	Debug    func(format string, args ...any)
}

// Load brings every image of an archive or directory in, with the names that it claims.
// On an error it returns those that are in as well.
func Load(ctx context.Context, s layerStore, opts LoadOptions) ([]*Image, error) {
	p, err := newPull(s, PullOptions{Platform: opts.Platform, Out: opts.Out, Quiet: opts.Quiet, Debug: opts.Debug})
	if err != nil {
		return nil, err
	}
	defer p.out.wait()
	images, err := p.load(ctx, opts)
	if err != nil {
		err = fmt.Errorf("load %s: %w", cmp.Or(opts.Input, "standard input"), p.advised(err))
	}
	return images, err
}

func (p *pull) load(ctx context.Context, opts LoadOptions) ([]*Image, error) {
	src := Source{Path: opts.Input}
	transport, _, _ := strings.Cut(opts.Input, ":")
	if strings.HasSuffix(transport, "-archive") || transport == "oci" || transport == "dir" {
		var err error
		if src, err = ParseSource(opts.Input); err != nil {
			return nil, err
		}
	}
	if src.Ref != "" || src.Transport == "dir" {
		return one(p.local(ctx, src))
	}
	t, err := p.openTree(ctx, src.Path, opts.Stdin)
	if err != nil {
		return nil, err
	}
	defer t.close()
	archive, isArchive := t.(*tarTree)
	switch {
	case isArchive && t.has("manifest.json") && src.Transport != "oci-archive": // docker save writes both since version 25
		return p.loadDocker(ctx, archive, opts.Input)
	case t.has("index.json"):
		return p.loadLayout(ctx, t, opts.Input)
	case !isArchive && t.has("manifest.json"):
		return one(p.fromLocal(ctx, opts.Input, &localImage{carrier: &dirImage{t, p.blobs}}))
	}
	return nil, withHint(errors.New("no image in it: neither manifest.json nor index.json"),
		"load reads what docker save, podman save and skopeo copy write; for a plain tree use run --rootfs")
}

func one(img *Image, err error) ([]*Image, error) {
	if err != nil {
		return nil, err
	}
	return []*Image{img}, nil
}

func (p *pull) openTree(ctx context.Context, file string, stdin io.Reader) (tree, error) {
	if file == "" || file == "-" {
		return p.openStdin(ctx, stdin)
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return openDir(file)
	}
	return openArchive(ctx, file, p.blobs)
}

func (p *pull) openStdin(ctx context.Context, stdin io.Reader) (tree, error) {
	if stdin == nil {
		return nil, &fs.PathError{Op: "read", Path: "standard input", Err: fs.ErrInvalid}
	}
	in := &counter{r: stdin, ctx: ctx}
	f, err := spool(in, in, p.blobs)
	if err != nil {
		return nil, err
	}
	return openTar(ctx, f, p.blobs)
}

func (p *pull) loadDocker(ctx context.Context, t *tarTree, ref string) ([]*Image, error) {
	a, err := readDockerArchive(t, p.blobs)
	if err != nil {
		return nil, err
	}
	var images []*Image
	for _, item := range a.items {
		local, err := a.image(ctx, item)
		if err != nil {
			return images, err
		}
		img, err := p.fromLocal(ctx, ref, local)
		if err != nil {
			return images, err
		}
		images = append(images, img)
	}
	return images, nil
}

func (p *pull) loadLayout(ctx context.Context, t tree, ref string) ([]*Image, error) {
	l, err := readLayout(t, p.blobs)
	if err != nil {
		return nil, err
	}
	if local, err := l.pick(""); err == nil {
		return one(p.fromLocal(ctx, ref, local))
	}
	var images []*Image
	for _, d := range l.index.Manifests {
		img, err := p.fromLocal(ctx, ref, l.image(d))
		if err != nil {
			return images, err
		}
		images = append(images, img)
	}
	return images, nil
}
