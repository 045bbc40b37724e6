//go:build !hot

package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	store   layerStore
	blobs   *blobDir
	helpers []string // of registries.conf
	out     *progress
}

func newPull(s layerStore, opts PullOptions) (*pull, error) {
	blobs, err := openBlobDir(s.Dir())
	if err != nil {
		return nil, advised(fmt.Errorf("store: %w", err), s.Dir())
	}
	p := &pull{PullOptions: opts, store: s, blobs: blobs, out: newProgress(opts.Out, opts.Quiet)}
	if err := errors.Join(blobs.collect(time.Now().Add(-blobAge)), collectLocks(filepath.Join(s.Dir(), "pulls"))); err != nil {
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
	p.helpers = m.regs.helpers
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
			if answer, ok := errors.AsType[*RegistryError](err); ok && answer.Status == http.StatusUnauthorized && p.Access.Creds != "" {
				err = withHint(err, "--creds may be wrong, or there is no such image")
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

// from brings an image from one place in.
func (p *pull) from(ctx context.Context, name Name, e endpoint) (*Image, error) {
	creds, err := p.Access.credentialsFor(ctx, e.name, p.helpers, func(err error) { p.out.line("sbx: warning: %v", err) })
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
	if failed := r.failed(); err != nil && failed != nil { // not the store's fault: another place may have it
		err = failed
	}
	if err == nil || full(err) { // what there was no room for does not wait to be resumed
		if err := r.forget(); err != nil {
			p.debugf("remove blobs of %s: %v", name, err)
		}
	}
	return img, err
}
