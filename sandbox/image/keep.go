//go:build !hot

package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// keep puts a fetched image into the store. Of several pulls of one image one works; the
// others wait for it, and find the image when their turn comes.
func (p *pull) keep(ctx context.Context, f *fetched) (*Image, error) {
	dir := filepath.Join(p.store.Dir(), "pulls")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &storeError{advised(err, p.store.Dir())}
	}
	lock, err := lockFile(ctx, filepath.Join(dir, f.Digest.Encoded()), func() {
		p.out.line("Waiting for another sbx that pulls the same image...")
	})
	if err != nil {
		return nil, &storeError{advised(err, p.store.Dir())}
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

// present finds the image if the store has just this one, and gives it its names. One of
// podman's can be given none: with other names it is brought in once more, as ours.
func (p *pull) present(f *fetched) (*Image, error) {
	img, err := p.store.Find(f.id.Encoded())
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, &storeError{err}
	}
	if img.Digest != f.Digest || !p.fits(img) || !whole(img) || img.ReadOnly && !p.named(img, f.Names) {
		closeImage(img)
		return nil, nil
	}
	if len(f.Names) == 0 {
		return img, nil
	}
	if !img.ReadOnly {
		err = p.store.AddNames(img.ID, f.Names...)
	}
	if err != nil {
		closeImage(img)
		return nil, &storeError{err}
	}
	img.Name = f.Names[0]
	return img, nil
}

// whole: the layers are where the index, which does not watch them, says that they are.
func whole(img *Image) bool {
	for _, dir := range img.Layers {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}

// named: the image has all these names.
func (p *pull) named(img *Image, names []string) bool {
	for _, name := range names {
		has, err := p.store.Find(name)
		if err != nil {
			return false
		}
		closeImage(has)
		if has.ID != img.ID {
			return false
		}
	}
	return true
}

// storeError is a failure to keep what was fetched; no other registry will help.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }
