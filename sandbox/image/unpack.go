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
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A layer is unpacked into a staging directory beside the store, with no lock of the
// store's held and several at a time; the store then takes it over by a rename. The parts
// of one layer work side by side:
//
//	blob -> decompress, hash -> layerReader -> layerTree
//	        (goroutine)         `-> tar-split

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
	layer := newLayerReader(ahead, split)
	layer.ratio = in.ratio
	layer.space = freeSpace(staging)
	if uids > 1 {
		layer.uids, layer.gids = uids, gids
	}
	if err := makeLayer(layer, s.root(), uids > 1); err != nil {
		return nil, overOverlay(err, staging)
	}
	if err := split.Flush(); err != nil {
		return nil, err
	}
	ahead.stop()
	if got := hash.Digest(); got != want {
		return nil, fmt.Errorf("the contents are %s, the image says %s", got, want)
	}
	s.size, s.rootSeen = layer.size, layer.rootSeen
	s.uids = slices.Sorted(maps.Keys(layer.usedUIDs))
	s.gids = slices.Sorted(maps.Keys(layer.usedGIDs))
	return s, nil
}

// makeLayer makes the files of a layer in dir; with their owners, or all as root's.
func makeLayer(layer *layerReader, dir string, owners bool) error {
	tree, err := newLayerTree(dir, owners)
	if err != nil {
		return err
	}
	defer tree.close()
	for {
		e, err := layer.next()
		if err == io.EOF {
			return tree.finish()
		}
		if err != nil {
			return err
		}
		if err := tree.make(e, layer.contents); err != nil {
			return fmt.Errorf("%s: %w", quoteShort(e.Name), err)
		}
	}
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
			os.RemoveAll(dir.Name()) // what cannot be removed is in nobody's way
		}
		dir.Close()
	}
	return nil
}
