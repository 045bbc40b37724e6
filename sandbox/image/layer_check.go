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
func (l *layerReader) check(e layerEntry) error {
	h := e.Header
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
	if err := e.checkName(); err != nil {
		return err
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
		l.extras += int64(len(l.chain)-blockSize) + int64(len(e.path))
		if l.dirs > maxDirs || l.extras > maxDirExtra {
			return limitf("more than %d directories, or with more than %d bytes of names and extended headers", maxDirs, maxDirExtra)
		}
		l.rootSeen = l.rootSeen || e.path == "."
	case tar.TypeLink, tar.TypeSymlink, tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
	default:
		return fmt.Errorf("unknown kind of entry %q", h.Typeflag)
	}
	return nil
}

// checkName refuses names that are too long to be reached, and whiteouts that would take
// away the directory they are in, or the one above (umoci, c/storage).
func (e layerEntry) checkName() error {
	if len(e.Name) > maxPath {
		return limitf("a path of more than %d bytes", maxPath)
	}
	if e.path == ".." || strings.HasPrefix(e.path, "../") {
		return errors.New("outside of the layer")
	}
	if strings.Count(e.path, "/") >= maxPathDepth {
		return limitf("a path of more than %d components", maxPathDepth)
	}
	for _, base := range []string{path.Base(e.path), path.Base(e.Name)} {
		if gone, ok := strings.CutPrefix(base, whiteoutPrefix); ok && (gone == "" || gone == "." || gone == "..") {
			return errors.New("not a name for a whiteout")
		}
	}
	for part := range strings.SplitSeq(e.path, "/") {
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

func (l *layerReader) checkIDs(h *tar.Header) error {
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
