package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// copyIntoEmpty copies what lies below src into dst, unless dst has something already:
// so a new volume begins with the image's files, as with podman and docker.
func copyIntoEmpty(src, dst *os.File) error {
	to, err := reopenDir(dst)
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := to.Readdirnames(1); err != io.EOF {
		return err
	}
	return copyTree(src, dst)
}

// reopenDir opens a directory held by an O_PATH descriptor for reading.
func reopenDir(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), dir.Name()), nil
}

// maxCopyDepth is how deep directories are copied: each level holds two descriptors.
const maxCopyDepth = 200

// copyTree copies the directory src, and everything below it, over the directory dst:
// owners, modes, times, links, fifos and extended attributes, but no devices and no
// sockets. No name is resolved but relative to the directory it was read from, and no link
// is followed.
func copyTree(src, dst *os.File) error { return copyDir(src, dst, 0) }

func copyDir(src, dst *os.File, depth int) error {
	if depth > maxCopyDepth {
		return fmt.Errorf("copy %s: more than %d directories deep", src.Name(), maxCopyDepth)
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
	for {
		names, err := from.Readdirnames(1000)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := copyEntry(from, to, name, depth); err != nil {
				return err
			}
		}
	}
	return copyAttributes(from, to)
}

func copyEntry(from, to *os.File, name string, depth int) error {
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
		return copyDir(src, dst, depth+1)
	case unix.S_IFREG:
		return copyFile(from, to, name)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(from.Fd()), name, buf)
		if err != nil {
			return failed("readlink", err)
		}
		if err := unix.Symlinkat(string(buf[:n]), int(to.Fd()), name); err != nil {
			return failed("symlink", err)
		}
		return unix.Fchownat(int(to.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	case unix.S_IFIFO:
		if err := unix.Mknodat(int(to.Fd()), name, st.Mode, 0); err != nil {
			return failed("mkfifo", err)
		}
		return unix.Fchownat(int(to.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
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

func copyFile(from, to *os.File, name string) error {
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
	return copyAttributes(src, dst)
}

// copyAttributes gives dst the owner, mode, extended attributes and times of src.
func copyAttributes(src, dst *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	if err := unix.Fchown(int(dst.Fd()), int(st.Uid), int(st.Gid)); err != nil {
		return &fs.PathError{Op: "chown", Path: dst.Name(), Err: err}
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

// chownTree gives the directory or file and all below it to uid and gid (-v SRC:DST:U).
func chownTree(top *os.File, uid, gid uint32) error {
	chown := func(dir int, name string, flags int) error {
		if err := unix.Fchownat(dir, name, int(uid), int(gid), flags|unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "chown", Path: top.Name() + "/" + name, Err: err}
		}
		return nil
	}
	if err := chown(int(top.Fd()), "", unix.AT_EMPTY_PATH); err != nil {
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
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := chown(int(dir.Fd()), name, 0); err != nil {
			return err
		}
		sub, err := openChild(dir, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return err
		}
		err = chownTree(sub, uid, gid)
		sub.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
