package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// copier copies files. They stay their owners', but what belongs to an id that the command
// does not see, as that of the image's root with --userns nomap, becomes root's.
type copier struct {
	ids  userns.Map
	root owner
}

func (b *builder) copier() copier { return copier{b.ids(), b.root()} }

func (c copier) owner(st *unix.Stat_t) owner {
	o := owner{st.Uid, st.Gid}
	if !shows(c.ids.UIDs, o.uid) {
		o.uid = c.root.uid
	}
	if !shows(c.ids.GIDs, o.gid) {
		o.gid = c.root.gid
	}
	return o
}

func shows(ids []userns.ID, outside uint32) bool {
	return slices.ContainsFunc(ids, func(id userns.ID) bool { return outside >= id.Outside && outside-id.Outside < id.Size })
}

// reopenDir opens a directory held by an O_PATH descriptor for reading.
func reopenDir(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), dir.Name()), nil
}

// eachName calls do for every name in dir. A directory may have millions.
func eachName(dir *os.File, do func(name string) error) error {
	for {
		names, err := dir.Readdirnames(1000)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := do(name); err != nil {
				return err
			}
		}
	}
}

// maxDepth is how deep directories are copied and given away: each level holds two descriptors.
const maxDepth = 200

// copyTree copies the directory src, and everything below it, over the directory dst:
// modes, times, links, fifos and extended attributes, but no devices and no sockets. No name is resolved but relative to the directory it was read from, and no link
// is followed.
func (c copier) copyTree(src, dst *os.File) error { return c.copyDir(src, dst, 0) }

func (c copier) copyDir(src, dst *os.File, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("copy %s: more than %d directories deep", src.Name(), maxDepth)
	}
	from, err := reopenDir(src)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := reopenDir(dst)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := eachName(from, func(name string) error { return c.copyEntry(from, to, name, depth) }); err != nil {
		return err
	}
	return c.copyAttributes(from, to)
}

func (c copier) copyEntry(from, to *os.File, name string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(from.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	failed := func(op string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(int(to.Fd()), name, 0o700); err != nil && err != unix.EEXIST {
			return failed("mkdir", err)
		}
		src, err := openChild(from, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer src.Close()
		dst, err := openChild(to, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer dst.Close()
		return c.copyDir(src, dst, depth+1)
	case unix.S_IFREG:
		return c.copyFile(from, to, name)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(from.Fd()), name, buf)
		if err != nil {
			return failed("readlink", err)
		}
		if err := unix.Symlinkat(string(buf[:n]), int(to.Fd()), name); err != nil {
			return failed("symlink", err)
		}
		return c.owner(&st).lchown(to, name)
	case unix.S_IFIFO:
		if err := unix.Mknodat(int(to.Fd()), name, st.Mode, 0); err != nil {
			return failed("mkfifo", err)
		}
		return c.owner(&st).lchown(to, name)
	}
	return nil
}

func openChild(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (c copier) copyFile(from, to *os.File, name string) error {
	src, err := openChild(from, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openChild(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil { // copy_file_range(2) where it can
		return err
	}
	return c.copyAttributes(src, dst)
}

// copyAttributes gives dst the owner, mode, extended attributes and times of src.
func (c copier) copyAttributes(src, dst *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	if err := c.owner(&st).chown(dst); err != nil {
		return err
	}
	if err := unix.Fchmod(int(dst.Fd()), st.Mode&0o7777); err != nil {
		return &fs.PathError{Op: "chmod", Path: dst.Name(), Err: err}
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	times := []unix.Timeval{unix.NsecToTimeval(st.Atim.Nano()), unix.NsecToTimeval(st.Mtim.Nano())}
	return unix.Futimes(int(dst.Fd()), times)
}

func copyXattrs(src, dst *os.File) error {
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(src.Fd()), names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "listxattr", Path: src.Name(), Err: err}
	}
	value := make([]byte, 64<<10)
	for _, name := range splitNUL(names[:n]) {
		size, err := unix.Fgetxattr(int(src.Fd()), name, value)
		if err != nil {
			continue
		}
		// What the target cannot hold (ACLs, security labels), podman leaves out too.
		err = unix.Fsetxattr(int(dst.Fd()), name, value[:size], 0)
		if err != nil && err != unix.ENOTSUP && err != unix.EPERM && err != unix.EINVAL {
			return &fs.PathError{Op: "setxattr " + name, Path: dst.Name(), Err: err}
		}
	}
	return nil
}

func splitNUL(text []byte) []string {
	var parts []string
	start := 0
	for i, c := range text {
		if c == 0 {
			parts = append(parts, string(text[start:i]))
			start = i + 1
		}
	}
	return parts
}

// chownTree gives the directory or file top, and all that is below it, to o (-v SRC:DST:U).
func chownTree(top *os.File, o owner) error { return chownFrom(top, o, 0) }

func chownFrom(top *os.File, o owner, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("chown %s: more than %d directories deep", top.Name(), maxDepth)
	}
	if err := o.chown(top); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(top.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	dir, err := reopenDir(top)
	if err != nil {
		return err
	}
	defer dir.Close()
	return eachName(dir, func(name string) error {
		entry, err := openChild(dir, name, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer entry.Close()
		return chownFrom(entry, o, depth+1)
	})
}
