//go:build !hot

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// blobDir holds blobs between the registry and the store:
//
//	blobs/sha256/<hex>          complete; its digest was checked
//	blobs/sha256/<hex>.partial  as far as it has come
//
// Whoever fills a partial one has locked it exclusively (flock), whoever reads a complete
// one has locked it shared; a lock counts only while the file still has its name. So
// eight processes download a blob once, one that is killed leaves what it has to the
// next, and what nobody holds can be removed at any time.
type blobDir struct{ dir string }

// blobAge is how long a blob waits for whoever will resume it.
const blobAge = 7 * 24 * time.Hour

func blobsIn(data string) *blobDir { return &blobDir{filepath.Join(data, "blobs")} }

func openBlobDir(data string) (*blobDir, error) {
	b := blobsIn(data)
	for _, algorithm := range []string{"sha256", "sha512"} {
		if err := os.MkdirAll(filepath.Join(b.dir, algorithm), 0o700); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// path of a digest that parseDigest has let pass.
func (b *blobDir) path(d digest.Digest) string {
	return filepath.Join(b.dir, string(d.Algorithm()), d.Encoded())
}

// open returns a complete blob, locked shared, or fs.ErrNotExist.
func (b *blobDir) open(d digest.Digest) (*os.File, error) {
	f, err := os.OpenFile(b.path(d), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	// Only a remover locks it exclusively, and lets go of it without a name.
	if err := flock(f, unix.LOCK_SH); err != nil || !named(f) {
		f.Close()
		return nil, errors.Join(err, &fs.PathError{Op: "open", Path: f.Name(), Err: fs.ErrNotExist})
	}
	return f, nil
}

// partial is a blob that this process fills.
type partial struct {
	*os.File
	final string
}

// acquire waits for whoever is downloading the blob, then returns it complete, or
// the partial one to go on with. waiting is called once if there is someone to wait for.
func (b *blobDir) acquire(ctx context.Context, d digest.Digest, waiting func()) (*os.File, *partial, error) {
	for {
		have, err := b.open(d)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return have, nil, err
		}
		f, err := lockFile(ctx, b.path(d)+".partial", waiting)
		if err != nil {
			return nil, nil, err
		}
		if _, err := os.Lstat(b.path(d)); err != nil {
			return nil, &partial{f, b.path(d)}, nil
		}
		// It was completed between the two looks.
		os.Remove(f.Name())
		f.Close()
	}
}

// complete gives the blob its name, and turns the lock into a shared one.
func (p *partial) complete() (*os.File, error) {
	if err := os.Rename(p.Name(), p.final); err != nil {
		return nil, err
	}
	if err := flock(p.File, unix.LOCK_SH); err != nil {
		return nil, err
	}
	_, err := p.Seek(0, io.SeekStart)
	return p.File, err
}

// discard removes what turned out to be wrong.
func (p *partial) discard() error { return errors.Join(os.Remove(p.Name()), p.Close()) }

// remove deletes a blob as far as it has come, unless someone else has it: they will.
func (b *blobDir) remove(d digest.Digest) error {
	return errors.Join(removeUnlocked(b.path(d)), removeUnlocked(b.path(d)+".partial"))
}

func removeUnlocked(file string) error {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err == nil && sameFile(f, file) {
		err = os.Remove(file)
	}
	return err
}

// collect removes the blobs that nobody holds, and nobody has touched since before.
func (b *blobDir) collect(before time.Time) error {
	var errs []error
	for _, algorithm := range []string{"sha256", "sha512"} {
		dir := filepath.Join(b.dir, algorithm)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.ModTime().Before(before) {
				errs = append(errs, removeUnlocked(filepath.Join(dir, e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// DropBlobs removes what pulls that did not come to their end have left to be resumed.
func (s *Store) DropBlobs() error {
	if err := blobsIn(s.dir).collect(time.Now()); err != nil {
		return advised(fmt.Errorf("store: %w", err), s.dir)
	}
	return nil
}

// temp is a file without a name, for what is taken out of an archive.
func (b *blobDir) temp() (*os.File, error) {
	fd, err := unix.Open(b.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), b.dir+"/(unnamed)"), nil
	}
	f, err := os.CreateTemp(b.dir, "extract-*") // a file system without O_TMPFILE
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// room says early and clearly that so many bytes will not fit into dir.
func room(dir string, need int64) error {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return nil // the write will tell
	}
	if free := int64(st.Bavail) * st.Bsize; need > free {
		return advised(fmt.Errorf("%d MB are missing in %s: %w", (need-free)>>20+1, dir, unix.ENOSPC), dir)
	}
	return nil
}

// lockFile opens or makes a file and locks it exclusively, for as long as it stays open.
func lockFile(ctx context.Context, file string, waiting func()) (*os.File, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && sameFile(f, file) {
			return f, nil
		}
		f.Close()
		if err == nil {
			continue // renamed or removed while we opened it
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		// Polled, because flock does not listen to ctx.
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// named: the file has not been removed since it was opened.
func named(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink > 0
}

// sameFile: the name still means this file.
func sameFile(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(name)
	return err == nil && os.SameFile(a, b)
}
