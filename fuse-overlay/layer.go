//go:build !hot

package fuseoverlay

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// layer is one directory of the stack.
type layer struct {
	root  *held
	dev   uint64
	upper bool
	last  bool // nothing is below
}

// held is a directory of a layer, reached by its parent's descriptor and a name, never by a path:
// so no link leads elsewhere, and depth does not matter.
type held struct {
	descriptor
	layer  *layer
	parent *held // FS.tree guards these two, in the upper layer; elsewhere nothing changes
	name   string

	scan  sync.Mutex
	known bool            // the names below have been read
	marks map[string]bool // names that files .wh.NAME hide in the layers below
	over  bool            // there is a file .wh..wh..opq
}

// open returns the directory's descriptor, which does for looking up names, until done.
func (fs *FS) open(h *held) (int, error) {
	if fd, ok := fs.fds.use(&h.descriptor); ok {
		return fd, nil
	}
	// The way down is a loop: a layer may be deeper than is good for a stack.
	way := []*held{h}
	var fd int
	for at := h.parent; ; at = at.parent {
		if at == nil {
			return -1, unix.ESTALE
		}
		var ok bool
		if fd, ok = fs.fds.use(&at.descriptor); ok {
			way = append(way, at)
			break
		}
		way = append(way, at)
	}
	for i := len(way) - 2; i >= 0; i-- {
		next, err := fs.fds.openat(fd, way[i].name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err == nil {
			fd = fs.fds.put(&way[i].descriptor, next)
		}
		fs.fds.done(&way[i+1].descriptor)
		if err != nil {
			return -1, err
		}
	}
	return fd, nil
}

func (fs *FS) done(h *held) { fs.fds.done(&h.descriptor) }

// lstat is of a name in h.
func (fs *FS) lstat(h *held, name string, st *unix.Stat_t) error {
	dir, err := fs.open(h)
	if err != nil {
		return err
	}
	defer fs.done(h)
	return lstatat(dir, name, st)
}

func lstatat(dir int, name string, st *unix.Stat_t) error {
	_, err := retry(func() (int, error) { return 0, unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW) })
	return err
}

// fdName leads to an open file from the working directory, which is /proc/self/fd.
func fdName(fd int) string { return strconv.Itoa(fd) }

// readNames calls each with every entry of h but . and .., until that says no.
func (fs *FS) readNames(h *held, each func(name []byte, ino uint64, typ uint8) error) error {
	dir, err := fs.open(h)
	if err != nil {
		return err
	}
	defer fs.done(h)
	fd, err := fs.fds.openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = fs.fds.openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := fs.dents.Get().(*[]byte)
	defer fs.dents.Put(buf)
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, *buf) })
		if err != nil || n <= 0 {
			return err
		}
		for rest := (*buf)[:n]; len(rest) > 0; {
			name, ino, typ, size := parseDirent(rest)
			if size == 0 {
				return unix.EIO
			}
			rest = rest[size:]
			if len(name) == 0 || name[0] == '.' && (len(name) == 1 || len(name) == 2 && name[1] == '.') {
				continue
			}
			if err := each(name, ino, typ); err != nil {
				return err
			}
		}
	}
}

// read reads, once, which names the files in h hide below. There is no other way to see a
// .wh.NAME than to ask for it at each lookup, or to have read the directory.
func (fs *FS) read(h *held) error {
	h.scan.Lock()
	defer h.scan.Unlock()
	if h.known {
		return nil
	}
	var left []string
	err := fs.readNames(h, func(name []byte, _ uint64, _ uint8) error {
		if len(name) < len(markPrefix) || string(name[:len(markPrefix)]) != markPrefix {
			return nil
		}
		_, hides := mark(string(name))
		switch {
		case hides != "":
			h.setMark(hides, true)
		case string(name) == opaqueMark:
			h.over = true
		case h.layer.upper && strings.HasPrefix(string(name), tempPrefix):
			left = append(left, string(name))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(left) > 0 && !fs.readOnly {
		fs.sweep(h, left)
	}
	h.known = true
	return nil
}

// sweep removes what a killed server left half made.
func (fs *FS) sweep(h *held, names []string) {
	dir, err := fs.open(h)
	if err != nil {
		return
	}
	defer fs.done(h)
	for _, name := range names {
		if unix.Unlinkat(dir, name, 0) == unix.EISDIR {
			_ = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		}
	}
}

func (h *held) setMark(name string, set bool) {
	if !set {
		delete(h.marks, name)
		return
	}
	if h.marks == nil {
		h.marks = map[string]bool{}
	}
	h.marks[name] = true
}

// hides says whether a file .wh.NAME in h hides name in the layers below.
func (fs *FS) hides(h *held, name string) (bool, error) {
	if err := fs.read(h); err != nil {
		return false, err
	}
	h.scan.Lock()
	defer h.scan.Unlock()
	return h.marks[name], nil
}

// dirMarks reads what h says of itself.
func (fs *FS) dirMarks(h *held) (m dirMarks, err error) {
	fd, err := fs.open(h)
	if err != nil {
		return m, err
	}
	defer fs.done(h)
	path := fdName(fd)
	list, err := listXattrs(path, true)
	if err != nil {
		return m, err
	}
	for _, name := range list {
		if !ownXattr(name) {
			continue
		}
		value, err := readXattr(path, name, true)
		if err != nil {
			continue // gone, or not for us: trusted.overlay.opaque
		}
		if err := m.set(name, value); err != nil {
			return m, unix.EIO // as the kernel's overlay says
		}
	}
	if m.opaque {
		return m, nil
	}
	if err := fs.read(h); err != nil {
		return m, err
	}
	h.scan.Lock()
	defer h.scan.Unlock()
	m.opaque = h.over
	return m, nil
}

// openRoot makes the root of a layer of an open directory.
func openRoot(dir *os.File) (*held, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	return &held{descriptor: descriptor{fd: fd, open: true, pinned: true}}, nil
}

// parseDirent reads one entry of what getdents64(2) gives; size is 0 if there is none.
func parseDirent(b []byte) (name []byte, ino uint64, typ uint8, size int) {
	const header = 19
	if len(b) < header {
		return nil, 0, 0, 0
	}
	size = int(binary.NativeEndian.Uint16(b[16:]))
	if size < header || size > len(b) {
		return nil, 0, 0, 0
	}
	name, _, _ = bytes.Cut(b[header:size], []byte{0})
	return name, binary.NativeEndian.Uint64(b), b[18], size
}
