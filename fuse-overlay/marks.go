//go:build !hot

package fuseoverlay

import (
	"bytes"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// What layers say beside their files, in the three dialects that are read:
//
//	                     kernel (userxattr)          fuse-overlayfs               images
//	NAME is deleted      NAME, character device 0:0  the same                     file .wh.NAME
//	nothing below shows  user.overlay.opaque=y       user.fuseoverlayfs.opaque=y  file .wh..wh..opq
//	is merged with PATH  user.overlay.redirect=PATH  -                            -
//
// and trusted.overlay.* for user.overlay.*, where it can be read, which is not in a user namespace.
const (
	markPrefix  = ".wh."
	metaPrefix  = ".wh..wh." // what AUFS kept for itself
	opaqueMark  = ".wh..wh..opq"
	tempPrefix  = ".wh..wh.sbx." // a file that is being made, in the directory where it will be
	overlayUser = "user.overlay."
	overlayRoot = "trusted.overlay."
	fuseUser    = "user.fuseoverlayfs."
	xattrOpaque = overlayUser + "opaque"
	xattrOrigin = overlayUser + "sbx.origin" // where a file was before it was copied up, from the layer's root; ours alone
	maxRedirect = 4096                       // of a path: PATH_MAX
)

// mark tells what a file name says: that it is no file's, and which name it hides below.
func mark(name string) (isMark bool, hides string) {
	rest, ok := strings.CutPrefix(name, markPrefix)
	switch {
	case !ok:
		return false, ""
	case strings.HasPrefix(name, metaPrefix), rest == "", rest == ".", rest == "..":
		return true, ""
	}
	return true, rest
}

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// ownXattr are those of overlay file systems, which nobody sees. Who sets one of these, as
// an overlay above this one does, has it stored under another name (overlayfs: Linux 6.7).
func ownXattr(name string) bool {
	return strings.HasPrefix(name, overlayUser) || strings.HasPrefix(name, fuseUser) || strings.HasPrefix(name, overlayRoot)
}

// storedXattr is the name on disk of an attribute that somebody above calls name.
func storedXattr(name string) string {
	for _, prefix := range []string{overlayUser, overlayRoot} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return prefix + "overlay." + rest
		}
	}
	if rest, ok := strings.CutPrefix(name, fuseUser); ok {
		return fuseUser + "overlay." + rest
	}
	return name
}

// shownXattr is its inverse; what is the overlay's own has no name.
func shownXattr(stored string) (string, bool) {
	if !ownXattr(stored) {
		return stored, true
	}
	for _, prefix := range []string{overlayUser, overlayRoot, fuseUser} {
		if rest, ok := strings.CutPrefix(stored, prefix+"overlay."); ok && rest != "" {
			return prefix + rest, true
		}
	}
	return "", false
}

// xattrNames are those of a list as listxattr(2) gives it.
func xattrNames(list []byte) []string {
	var names []string
	for len(list) > 0 {
		name, rest, _ := bytes.Cut(list, []byte{0})
		if len(name) > 0 {
			names = append(names, string(name))
		}
		list = rest
	}
	return names
}

// dirMarks is what the extended attributes of a directory say.
type dirMarks struct {
	opaque   bool
	redirect []string // components; of the layers' root if absolute, else of the same parent
	absolute bool
}

var errRedirect = errors.New("redirect that leads nowhere")

// setDirMark takes one attribute into account.
func (m *dirMarks) set(name string, value []byte) error {
	switch name {
	case overlayUser + "opaque", overlayRoot + "opaque", fuseUser + "opaque":
		m.opaque = m.opaque || string(value) == "y"
	case overlayUser + "redirect", overlayRoot + "redirect":
		path, absolute, err := parseRedirect(value)
		if err != nil {
			return err
		}
		m.redirect, m.absolute = path, absolute
	}
	return nil
}

// parseRedirect reads what the kernel writes: a name, or a path from the root. Anything else
// is hostile, or broken, and might lead out of the layer.
func parseRedirect(value []byte) (path []string, absolute bool, err error) {
	s := strings.TrimSuffix(string(value), "\x00")
	if len(s) == 0 || len(s) > maxRedirect || strings.IndexByte(s, 0) >= 0 {
		return nil, false, errRedirect
	}
	s, absolute = strings.CutPrefix(s, "/")
	path = strings.Split(s, "/")
	if !absolute && len(path) != 1 {
		return nil, false, errRedirect
	}
	for _, name := range path {
		if name == "" || name == "." || name == ".." || len(name) > unix.NAME_MAX {
			return nil, false, errRedirect
		}
	}
	return path, absolute, nil
}
