package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is the new root as it is being built. Whatever is in it came from an image, or
// from a directory that somebody else may change at the same time: so every path is
// resolved by the kernel within the tree (openat2(2), Linux 5.6), and what is found is
// held by its descriptor.
type tree struct {
	dir   *os.File
	owner owner // of what is made in it
}

// open finds dst, which may be anything. The descriptor is O_PATH.
func (t tree) open(dst string) (*os.File, error) { return t.openFlags(dst, unix.O_PATH, 0) }

func (t tree) openFlags(dst string, flags, mode uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Mode:    mode,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range 128 {
		fd, err := unix.Openat2(int(t.dir.Fd()), dst, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), dst), nil
		case unix.EAGAIN, unix.EINTR: // somebody renamed something on the way (openat2(2))
		default:
			return nil, &fs.PathError{Op: "open", Path: dst, Err: err}
		}
	}
	return nil, &fs.PathError{Op: "open", Path: dst, Err: unix.EAGAIN}
}

// directory finds the directory dst, or makes it with everything above it.
func (t tree) directory(dst string, mode uint32) (*os.File, error) {
	return t.directoryVia(dst, mode, t.owner, 0)
}

// directoryOf is directory, but if dst is made it is o's.
func (t tree) directoryOf(o owner, dst string, mode uint32) (*os.File, error) {
	return t.directoryVia(dst, mode, o, 0)
}

// kernelDirectory is directory for what the kernel's own file systems are mounted on. No
// link may be on the way: whoever can change it later would choose what sbx and programs
// believe to be /proc (CVE-2019-19921).
func (t tree) kernelDirectory(dst string) (*os.File, error) {
	made, err := t.directory(dst, 0o755)
	if err != nil {
		return nil, err
	}
	defer made.Close()
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := unix.Openat2(int(t.dir.Fd()), dst, &how)
	if err == unix.ELOOP {
		return nil, fmt.Errorf("%s of the root is a link, and nothing of the kernel's is mounted behind one", dst)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dst, Err: err}
	}
	return os.NewFile(uintptr(fd), dst), nil
}

// maxLinks is how many links are followed by hand, as many as the kernel follows.
const maxLinks = 40

func (t tree) directoryVia(dst string, mode uint32, o owner, links int) (*os.File, error) {
	f, err := t.openFlags(dst, unix.O_PATH|unix.O_DIRECTORY, 0)
	if !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	dst = path.Clean("/" + dst)
	if dst == "/" {
		return nil, err
	}
	parent, err := t.directoryVia(path.Dir(dst), 0o755, t.owner, links)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	name := path.Base(dst)
	switch err = unix.Mkdirat(int(parent.Fd()), name, mode); err {
	case nil:
		if err := o.give(parent, name); err != nil {
			return nil, err
		}
	case unix.EEXIST:
		// A link to where nothing is yet: make that.
		if to, ok := t.dangling(parent, dst); ok && links < maxLinks {
			return t.directoryVia(to, mode, o, links+1)
		}
	default:
		return nil, &fs.PathError{Op: "mkdir", Path: dst, Err: err}
	}
	f, err = t.openFlags(dst, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) && links < maxLinks { // somebody else renames things here
		return t.directoryVia(dst, mode, o, links+1)
	}
	return f, err
}

// file finds dst, which is not a directory, or makes an empty file there. A link to
// where nothing is, as /etc/resolv.conf often is, is followed.
func (t tree) file(dst string) (*os.File, error) { return t.fileVia(dst, 0) }

func (t tree) fileVia(dst string, links int) (*os.File, error) {
	f, err := t.open(dst)
	if !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	parent, err := t.directory(path.Dir(path.Clean("/"+dst)), 0o755)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	name := path.Base(dst)
	switch err = unix.Mknodat(int(parent.Fd()), name, unix.S_IFREG|0o644, 0); err {
	case nil:
		if err := t.owner.give(parent, name); err != nil {
			return nil, err
		}
	case unix.EEXIST:
		if to, ok := t.dangling(parent, dst); ok && links < maxLinks {
			return t.fileVia(to, links+1)
		}
	default:
		return nil, &fs.PathError{Op: "create", Path: dst, Err: err}
	}
	return t.open(dst)
}

// dangling reads dst, in parent, if it is a link, and returns what it names in the tree.
func (t tree) dangling(parent *os.File, dst string) (string, bool) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(parent.Fd()), path.Base(dst), buf)
	if err != nil || n == len(buf) {
		return "", false
	}
	to := string(buf[:n])
	if !path.IsAbs(to) {
		to = path.Dir(dst) + "/" + to
	}
	return to, true
}

// where says how f, found in the tree, is called there without any link.
func (t tree) where(f *os.File) (string, error) {
	root, err := os.Readlink(fdPath(t.dir))
	if err != nil {
		return "", err
	}
	at, err := os.Readlink(fdPath(f))
	if err != nil {
		return "", err
	}
	below, ok := strings.CutPrefix(at, root)
	if !ok {
		return "", fmt.Errorf("bug in sbx: %s was found at %s, and not in %s", f.Name(), at, root)
	}
	return "/" + strings.TrimPrefix(below, "/"), nil
}

// fdPath names what f holds, for a call that does not take an O_PATH descriptor.
func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// kernelFile reports whether f lies on a file system that is the kernel's word: nothing
// of a user's is mounted there.
func kernelFile(f *os.File) bool {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return true
	}
	return s.Type == unix.PROC_SUPER_MAGIC || s.Type == unix.SYSFS_MAGIC
}

// maxEtc bounds what is read of an image's file: passwd and group, a few kilobytes in
// any real one (CVE-2024-9676, CVE-2026-47262).
const maxEtc = 4 << 20

// read returns the text of the small regular file dst, or nil if there is none.
func (t tree) read(dst string) ([]byte, error) {
	f, err := t.openFlags(dst, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is not a regular file", dst)
	}
	if info.Size() > maxEtc {
		return nil, fmt.Errorf("read %s: it is larger than %d MiB", dst, maxEtc>>20)
	}
	return io.ReadAll(io.LimitReader(f, maxEtc))
}
