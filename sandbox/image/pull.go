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
	"path/filepath"
	"strings"
	"time"
)

func (o PullOptions) retry() retry {
	r := retry{max: defaultRetries, delay: o.RetryDelay}
	if o.Retry != nil {
		r.max = *o.Retry
	}
	return r
}

// layerStore is the part of a Store that bringing images needs.
type layerStore interface {
	Find(name string) (*Image, error)
	Dir() string
	Put(ctx context.Context, f *Fetched) (*Image, error)
	AddNames(id string, names ...string) error
}

// pull is one Pull under way.
type pull struct {
	PullOptions
	store layerStore
	blobs *blobDir
	out   *progress
}

func newPull(s layerStore, opts PullOptions) (*pull, error) {
	blobs, err := openBlobDir(s.Dir())
	if err != nil {
		return nil, err
	}
	p := &pull{PullOptions: opts, store: s, blobs: blobs, out: newProgress(opts.Out, opts.Quiet)}
	if err := errors.Join(blobs.collect(time.Now()), collectLocks(filepath.Join(s.Dir(), "pulls"))); err != nil {
		opts.debugf("remove old blobs: %v", err)
	}
	return p, nil
}

// Pull brings an image into the store, as far as the policy wants it, and finds it there.
// It runs in the caller's process; only the store works in a user namespace.
func Pull(ctx context.Context, s layerStore, opts PullOptions) (*Image, error) {
	src, err := ParseSource(opts.Image)
	if err != nil {
		return nil, err
	}
	if src.Transport != "docker" {
		return pullLocal(ctx, s, opts, src)
	}
	names, err := opts.resolve(src)
	if err != nil {
		return nil, err
	}
	have, err := opts.find(s, names.candidates)
	if err != nil {
		return nil, err
	}
	switch {
	case have != nil && (opts.Policy == PullMissing || opts.Policy == PullNever || opts.Policy == ""):
		return have, nil
	case opts.Policy != PullNever && names.err != nil:
		closeImage(have)
		return nil, names.err
	case opts.Policy == PullNever:
		return nil, withHint(fmt.Errorf("image %s: %w", src.Ref, ErrNotFound), "sbx pull "+src.Ref)
	}
	img, err := pullNames(ctx, s, opts, names)
	if err != nil && have != nil && opts.Policy == PullNewer && ctx.Err() == nil {
		newProgress(opts.Out, opts.Quiet).line("sbx: warning: pull %s: %v; taking the image that is here", src.Ref, err)
		return have, nil
	}
	closeImage(have)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", src.Ref, err)
	}
	return img, nil
}

// meaning is what a reference may stand for.
type meaning struct {
	regs       *Registries // nil until they are needed
	names      []Name      // to be asked for, in this order
	candidates []string    // under which the store may have it
	note       string
	err        error // why there are no names
}

// resolve reads registries.conf only for what needs it: running a present image by its
// whole name must not cost that.
func (o PullOptions) resolve(src Source) (meaning, error) {
	n, err := parse(src.Ref)
	if err != nil {
		return meaning{}, err
	}
	if n.Registry == "" && src.Full {
		n = n.in("docker.io")
	}
	if n.Registry != "" {
		return meaning{names: []Name{n}, candidates: []string{n.String()}}, nil
	}
	regs, err := LoadRegistries()
	if err != nil {
		return meaning{}, err
	}
	candidates, err := regs.Candidates(src.Ref)
	if err != nil {
		return meaning{}, err
	}
	if looksLikeID(src.Ref) {
		candidates = append(candidates, strings.TrimPrefix(src.Ref, "sha256:"))
	}
	res, err := regs.Resolve(src.Ref)
	return meaning{regs, res.Names, candidates, res.Note, err}, nil
}

// Lookup finds an image that is here by what a person calls it: a name, a short name, an
// id or its beginning.
func Lookup(s layerStore, ref string) (*Image, error) {
	var o PullOptions
	m, err := o.resolve(Source{Ref: strings.TrimPrefix(ref, "docker://"), Full: strings.HasPrefix(ref, "docker://")})
	if err != nil {
		return nil, err
	}
	img, err := o.find(s, m.candidates)
	if err == nil && img == nil {
		err = fmt.Errorf("image %s: %w", ref, ErrNotFound)
	}
	return img, err
}

// find looks for an image of the platform that was asked for; nil if there is none.
func (o PullOptions) find(s layerStore, candidates []string) (*Image, error) {
	for _, name := range candidates {
		img, err := s.Find(name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if o.fits(img) {
			return img, nil
		}
		o.debugf("%s is here for another platform", name)
		closeImage(img)
	}
	return nil, nil
}

// fits: the image is for the platform that was asked for, if one was.
func (o PullOptions) fits(img *Image) bool {
	if o.Platform == (Platform{}) {
		return true
	}
	want := o.Platform.complete()
	has := Platform{img.Config.OS, img.Config.Architecture, img.Config.Variant}.normalized()
	return has.OS == want.OS && has.Arch == want.Arch && (o.Platform.Variant == "" || has.Variant == want.Variant)
}

func closeImage(img *Image) {
	if img != nil && img.Lock != nil {
		img.Lock.Close()
	}
}

// pullNames tries what a short name may mean, and of each the mirrors first.
func pullNames(ctx context.Context, s layerStore, opts PullOptions, m meaning) (*Image, error) {
	p, err := newPull(s, opts)
	if err != nil {
		return nil, err
	}
	defer p.out.wait()
	if m.regs == nil {
		if m.regs, err = LoadRegistries(); err != nil {
			return nil, err
		}
	}
	if m.note != "" {
		p.out.line("sbx: note: %s", m.note)
	}
	var errs []error
	for _, name := range m.names {
		endpoints, err := m.regs.endpoints(name)
		if err != nil {
			return nil, err
		}
		p.out.line("Trying to pull %s...", name)
		for _, e := range endpoints {
			img, err := p.from(ctx, name, e)
			if err == nil {
				return img, nil
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if e.mirror {
				p.debugf("mirror %s: %v", e.name.Registry, err)
				err = fmt.Errorf("mirror %w", err)
			}
			errs = append(errs, err)
			if _, ours := errors.AsType[*storeError](err); ours {
				return nil, err
			}
		}
	}
	return nil, lastFirst(errs)
}

// lastFirst is one line of several failures: the last place is the one that was meant.
func lastFirst(errs []error) error {
	last := errs[len(errs)-1]
	if len(errs) == 1 {
		return last
	}
	var before []string
	for _, err := range errs[:len(errs)-1] {
		before = append(before, err.Error())
	}
	return fmt.Errorf("%w (before that: %s)", last, strings.Join(before, "; "))
}

// storeError is a failure to keep what was fetched; no other registry will help.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// from brings an image from one place in.
func (p *pull) from(ctx context.Context, name Name, e endpoint) (*Image, error) {
	creds, err := p.Access.credentialsFor(ctx, e.name, func(err error) { p.out.line("sbx: warning: %v", err) })
	if err != nil {
		return nil, err
	}
	client, err := newClient(e, p.Access, creds)
	if err != nil {
		return nil, err
	}
	r := newRemote(ctx, client, p.blobs, p.retry(), p.out)
	defer r.close()
	f, err := locate(ctx, r, name.Digest, p.Platform)
	if err != nil {
		return nil, err
	}
	f.Ref, f.Names = name.String(), []string{name.String()}
	img, err := p.keep(ctx, f)
	if err != nil {
		return nil, err
	}
	if err := r.forget(); err != nil {
		p.debugf("remove blobs of %s: %v", name, err)
	}
	return img, nil
}

// keep puts a fetched image into the store. Of several pulls of one image one works; the
// others wait for it, and find the image when their turn comes.
func (p *pull) keep(ctx context.Context, f *fetched) (*Image, error) {
	dir := filepath.Join(p.store.Dir(), "pulls")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &storeError{err}
	}
	lock, err := lockFile(ctx, filepath.Join(dir, f.Digest.Encoded()), func() {
		p.out.line("Waiting for another sbx that pulls the same image...")
	})
	if err != nil {
		return nil, &storeError{err}
	}
	defer func() {
		os.Remove(lock.Name())
		lock.Close()
	}()
	if img, err := p.present(f); img != nil || err != nil {
		return img, err
	}
	if err := f.fetch(ctx); err != nil {
		return nil, err
	}
	if f.warning != "" {
		p.out.line("sbx: warning: %s", f.warning)
	}
	img, err := p.store.Put(ctx, &f.Fetched)
	if err != nil {
		return nil, &storeError{err}
	}
	p.out.line("Writing manifest %s done", f.Digest.Encoded()[:12])
	return img, nil
}

// collectLocks removes what pulls that were killed have left.
func collectLocks(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, removeUnlocked(filepath.Join(dir, e.Name())))
	}
	return err
}

// present finds the image if the store has just this one, and gives it its names.
func (p *pull) present(f *fetched) (*Image, error) {
	img, err := p.store.Find(f.id.Encoded())
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, &storeError{err}
	}
	if img.Digest != f.Digest || !p.fits(img) {
		closeImage(img)
		return nil, nil
	}
	if len(f.Names) == 0 {
		return img, nil
	}
	if err := p.store.AddNames(img.ID, f.Names...); err != nil {
		closeImage(img)
		return nil, &storeError{err}
	}
	img.Name = f.Names[0]
	return img, nil
}

// pullLocal brings an image from a file or directory in. It is read each time: what the
// store has of it costs nothing, and a path says nothing about what lies there today.
func pullLocal(ctx context.Context, s layerStore, opts PullOptions, src Source) (*Image, error) {
	p, err := newPull(s, opts)
	if err != nil {
		return nil, err
	}
	defer p.out.wait()
	img, err := p.local(ctx, src)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", src, err)
	}
	return img, nil
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
	return p.fromLocal(ctx, src.String(), &localImage{carrier: &dirImage{t, p.blobs}})
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
	f.Ref, f.Names = ref, local.names
	return p.keep(ctx, f)
}

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
		err = fmt.Errorf("load %s: %w", cmp.Or(opts.Input, "standard input"), err)
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
