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

// Loaded is an image that was brought in.
type Loaded struct {
	*Image
	Names []string // all that it came with
}

// Load brings every image of an archive or directory in, with the names that it claims.
// On an error it returns those that are in as well.
func Load(ctx context.Context, s layerStore, opts LoadOptions) ([]Loaded, error) {
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

func (p *pull) load(ctx context.Context, opts LoadOptions) ([]Loaded, error) {
	src := Source{Path: opts.Input}
	transport, _, _ := strings.Cut(opts.Input, ":")
	if strings.HasSuffix(transport, "-archive") || transport == "oci" || transport == "dir" {
		var err error
		if src, err = ParseSource(opts.Input); err != nil {
			return nil, err
		}
	}
	if src.Ref != "" || src.Transport == "dir" {
		img, err := p.local(ctx, src)
		if err != nil {
			return nil, err
		}
		loaded := Loaded{Image: img}
		if img.Name != "" {
			loaded.Names = []string{img.Name}
		}
		return []Loaded{loaded}, nil
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
		return p.loadAll(ctx, opts.Input, &localImage{localCarrier: &dirImage{t, p.blobs}})
	}
	return nil, withHint(errors.New("no image in it: neither manifest.json nor index.json"),
		"load reads what docker save, podman save and skopeo copy write; for a plain tree use run --rootfs")
}

func (p *pull) loadAll(ctx context.Context, ref string, images ...*localImage) (loaded []Loaded, err error) {
	for _, local := range images {
		img, err := p.fromLocal(ctx, ref, local)
		if err != nil {
			return loaded, err
		}
		loaded = append(loaded, Loaded{img, local.names})
	}
	return loaded, nil
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
	// A read of a pipe that nobody fills ends by no signal: it is left behind.
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, stdin)
		w.CloseWithError(err)
	}()
	defer context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })()
	in := &counter{r: r, ctx: ctx}
	f, err := spool(in, in, p.blobs)
	if err != nil {
		return nil, err
	}
	return openTar(ctx, f, p.blobs)
}

func (p *pull) loadDocker(ctx context.Context, t *tarTree, ref string) (loaded []Loaded, err error) {
	a, err := readDockerArchive(t, p.blobs)
	if err != nil {
		return nil, err
	}
	for _, item := range a.items {
		local, err := a.image(ctx, item)
		if err != nil {
			return loaded, err
		}
		more, err := p.loadAll(ctx, ref, local)
		if err != nil {
			return loaded, err
		}
		loaded = append(loaded, more...)
	}
	return loaded, nil
}

func (p *pull) loadLayout(ctx context.Context, t tree, ref string) ([]Loaded, error) {
	l, err := readLayout(t, p.blobs)
	if err != nil {
		return nil, err
	}
	if local, err := l.pick(""); err == nil {
		return p.loadAll(ctx, ref, local)
	}
	var images []*localImage
	for _, d := range l.index.Manifests {
		images = append(images, l.image(d))
	}
	return p.loadAll(ctx, ref, images...)
}
