//go:build !hot

package image

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/idtools"
	"golang.org/x/sys/unix"
)

// A layer is unpacked into a staging directory beside the store, with no lock of the
// store's held and several at a time; the store then takes it over by a rename. The parts
// of one layer work side by side:
//
//	blob -> decompress, hash -> layerLimit, tar-split -> library, in a jail
//	        (goroutine)         (thread of its own, whose root is the layer)

// stagedLayer is a layer that has been unpacked and whose DiffID is right.
type stagedLayer struct {
	dir      *os.File // locked for as long as somebody means to use it
	split    *os.File // tar-split
	size     int64    // uncompressed
	rootSeen bool
	uids     []uint32
	gids     []uint32
}

func (s *stagedLayer) root() string { return filepath.Join(s.dir.Name(), "root") }

// drop removes what is left of the layer.
func (s *stagedLayer) drop() {
	os.RemoveAll(s.dir.Name())
	s.dir.Close()
	s.split.Close()
}

// unpackLayer unpacks blob below staging, until stopped. uids and gids are how many ids
// there are; with one only, everything becomes root's.
func unpackLayer(blob *os.File, want digest.Digest, staging string, uids, gids uint32, stopped *atomic.Bool) (_ *stagedLayer, err error) {
	s, err := newStagedLayer(staging)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.drop()
		}
	}()
	in := &countingReader{r: blob, stopped: stopped}
	plain, err := decompress(in)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	hash := digest.SHA256.Digester()
	ahead := newReadAhead(io.TeeReader(plain, hash.Hash()))
	defer ahead.stop()

	split := bufio.NewWriterSize(s.split, 1<<18)
	limit := newLayerLimit(ahead, split)
	limit.ratio = in.ratio
	limit.space = freeSpace(staging)
	limit.parent = noSymlink
	options := &archive.TarOptions{
		WhiteoutFormat: archive.OverlayWhiteoutFormat,
		InUserNS:       true, // leaves device nodes out
	}
	if uids > 1 {
		limit.uids, limit.gids = uids, gids
	} else {
		options.ChownOpts = &idtools.IDPair{}
	}
	err = inJail(s.root(), func() error {
		if err := archive.Unpack(limit, "/", options); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, limit) // padding, which DiffID and tar-split cover
		return err
	})
	switch {
	case limit.err != nil: // whatever the library has made of it
		return nil, limit.err
	case err != nil:
		return nil, overOverlay(fmt.Errorf("%s: %w", quoteShort(limit.entry), err), staging)
	}
	if err := split.Flush(); err != nil {
		return nil, err
	}
	ahead.stop()
	if got := hash.Digest(); got != want {
		return nil, fmt.Errorf("the contents are %s, the image says %s", got, want)
	}
	s.size, s.rootSeen = limit.size, limit.rootSeen
	s.uids = slices.Sorted(maps.Keys(limit.usedUIDs))
	s.gids = slices.Sorted(maps.Keys(limit.usedGIDs))
	return s, nil
}

// noSymlink refuses a directory with a symlink on its way: a whiteout there would take away
// what another name of the layer promises. It is called in the jail, as the entries before are there.
func noSymlink(dir string) error {
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Lstat(dir); err == nil && st.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("a whiteout through the symlink %s", quoteShort(dir))
		}
	}
	return nil
}

// overOverlay explains the one thing that cannot be done on an overlay, as the root
// directory of a container is one: it keeps to itself how deletions are written down.
func overOverlay(err error, dir string) error {
	var st unix.Statfs_t
	if !errors.Is(err, unix.EPERM) || unix.Statfs(dir, &st) != nil || st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return err
	}
	return withHint(fmt.Errorf("%w: the store lies on an overlay file system", err), "set XDG_DATA_HOME to a directory on another file system, a volume for example")
}

func newStagedLayer(staging string) (_ *stagedLayer, err error) {
	s := &stagedLayer{}
	if s.dir, err = newLockedDir(staging); err != nil {
		return nil, err
	}
	// As c/storage makes it for a layer that says nothing of its root directory.
	if err = os.Mkdir(s.root(), 0o555); err == nil {
		s.split, err = os.OpenFile(filepath.Join(s.dir.Name(), "tar-split"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		s.drop()
		return nil, err
	}
	return s, nil
}

// newLockedDir makes a directory. Before it is locked another process may take it for a
// leftover; then it makes one more.
func newLockedDir(staging string) (*os.File, error) {
	for {
		path, err := os.MkdirTemp(staging, "layer-")
		if err != nil {
			return nil, err
		}
		dir, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = flock(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && named(dir) {
			return dir, nil
		}
		dir.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
	}
}

// removeLeftovers removes staged layers that nobody holds any more: their process was killed.
func removeLeftovers(staging string) error {
	entries, err := os.ReadDir(staging)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		dir, err := os.Open(filepath.Join(staging, e.Name()))
		if err != nil {
			continue
		}
		if flock(dir, unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = os.RemoveAll(dir.Name())
		}
		dir.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// inJail calls f on a thread whose root directory is dir, in a mount namespace of its
// own: however the library resolves a path, it stays below dir. The library's way is to
// execute us again, chroot and pipe the layer over; that costs a copy of every byte.
func inJail(dir string, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		err := enterJail(dir)
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

func enterJail(dir string) error {
	// Unshares the working and root directory too (CLONE_FS).
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "bind", Path: dir, Err: err}
	}
	if err := unix.Chdir(dir); err != nil {
		return &fs.PathError{Op: "chdir", Path: dir, Err: err}
	}
	// "." twice: the old root is then mounted over the new one (pivot_root(2)).
	switch err := unix.PivotRoot(".", "."); {
	case err == nil:
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount the old root: %w", err)
		}
	case err == unix.EINVAL: // an initramfs cannot be pivoted
		if err := unix.Chroot("."); err != nil {
			return &fs.PathError{Op: "chroot", Path: dir, Err: err}
		}
	default:
		return &fs.PathError{Op: "pivot_root", Path: dir, Err: err}
	}
	return unix.Chdir("/")
}
