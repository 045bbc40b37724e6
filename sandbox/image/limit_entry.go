//go:build !hot

package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"path"
	"strings"
)

// check judges one entry.
func (l *layerLimit) check(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // the library leaves it aside
	}
	if l.entries++; l.entries > maxLayerEntries {
		return limitf("more than %d entries", maxLayerEntries)
	}
	for key, value := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return errSparse
		}
		if strings.HasPrefix(key, paxXattr) && len(value) > maxXattr {
			return limitf("an extended attribute of more than %d bytes", maxXattr)
		}
	}
	if err := checkEntryName(h.Name); err != nil {
		return err
	}
	if name := path.Clean("/" + h.Name); strings.HasPrefix(path.Base(name), ".wh.") {
		if err := l.parent(path.Dir(name)); err != nil {
			return err
		}
	}
	if len(h.Linkname) > maxPath {
		return limitf("a link target of more than %d bytes", maxPath)
	}
	if err := l.checkIDs(h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		if h.Size > maxLayerSize-l.size {
			return limitf("with its %d bytes the layer has more than %d", h.Size, int64(maxLayerSize))
		}
	case tar.TypeDir:
		l.dirs++
		l.extras += int64(len(l.chain)) - blockSize
		if l.dirs > maxDirs || l.extras > maxDirExtra {
			return limitf("more than %d directories, or with more than %d bytes of extended headers", maxDirs, maxDirExtra)
		}
		l.rootSeen = l.rootSeen || path.Clean("/"+h.Name) == "/"
	case tar.TypeLink, tar.TypeSymlink, tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
	default:
		return fmt.Errorf("unknown kind of entry %q", h.Typeflag)
	}
	return nil
}

// checkEntryName refuses names that are too long to be reached, and whiteouts that
// would take away the directory they are in, or the one above (umoci, c/storage).
func checkEntryName(name string) error {
	if len(name) > maxPath {
		return limitf("a path of more than %d bytes", maxPath)
	}
	clean := path.Clean("/" + name)
	if rel := path.Clean(strings.TrimLeft(name, "/")); rel == ".." || strings.HasPrefix(rel, "../") {
		return errors.New("outside of the layer")
	}
	if strings.Count(clean, "/") > maxPathDepth {
		return limitf("a path of more than %d components", maxPathDepth)
	}
	base := path.Base(strings.TrimRight(name, "/"))
	if gone, ok := strings.CutPrefix(base, ".wh."); ok && (gone == "" || gone == "." || gone == "..") {
		return errors.New("not a name for a whiteout")
	}
	for part := range strings.SplitSeq(clean, "/") {
		if len(part) > maxPathPart {
			return limitf("a path component of more than %d bytes", maxPathPart)
		}
	}
	return nil
}

// unmappedError says that a file belongs to an id that the caller does not have.
type unmappedError struct {
	kind     string // user, group
	id, have int
}

func (e *unmappedError) Error() string {
	return fmt.Sprintf("belongs to %s %d, and ids go up to %d only", e.kind, e.id, e.have-1)
}

func (e *unmappedError) Hint() string {
	return fmt.Sprintf("give yourself more subordinate ids, as root: usermod --add-subuids 100000-%d --add-subgids 100000-%[1]d USER", 100000+max(e.id, 65535))
}

func (l *layerLimit) checkIDs(h *tar.Header) error {
	if l.uids == 0 {
		return nil
	}
	switch {
	case h.Uid < 0 || h.Uid >= int(l.uids):
		return &unmappedError{"user", h.Uid, int(l.uids)}
	case h.Gid < 0 || h.Gid >= int(l.gids):
		return &unmappedError{"group", h.Gid, int(l.gids)}
	}
	l.usedUIDs[uint32(h.Uid)] = struct{}{}
	l.usedGIDs[uint32(h.Gid)] = struct{}{}
	return nil
}
