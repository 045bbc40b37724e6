//go:build !hot

package image

import (
	"cmp"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSteps bounds what the symlinks of a layer may cost to follow.
const maxSteps = 2_000_000

// open finds a directory; make makes it, for it has no entry where a layer below has it. The
// descriptor is good until the next call.
func (t *layerTree) open(dir string, make bool) (heldDir, error) {
	if dir == t.last.path {
		return t.last, nil
	}
	fd, err := t.reach(dir, make)
	if err != nil {
		return heldDir{}, err
	}
	if t.last.fd >= 0 {
		unix.Close(t.last.fd)
	}
	t.last = heldDir{path: dir, fd: fd}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return heldDir{}, os.NewSyscallError("stat", err)
	}
	t.last.roots = st.Gid == 0
	return t.last, nil
}

// reach opens a directory, through symlinks if need be; and makes it, if that is wanted.
func (t *layerTree) reach(dir string, make bool) (int, error) {
	fd, err := t.lookup(dir)
	if err == unix.ELOOP || make && err == unix.ENOENT {
		fd, err = t.walk(dir, make)
	}
	return fd, os.NewSyscallError("open directory", err)
}

// lookup opens a directory that no symlink is on the way to. Where there is one, it returns ELOOP.
func (t *layerTree) lookup(dir string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(t.root, dir, &how) // Linux 5.6
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// maxSymlinks is how many symlinks may be on one way, as many as the kernel follows.
const maxSymlinks = 40

// walk is lookup by hand, part by part, where symlinks are on the way, even to what is not
// there yet: make makes it. It goes no deeper than a path without symlinks may, for whoever
// removes the layer holds a descriptor for each directory.
func (t *layerTree) walk(dir string, make bool) (_ int, err error) {
	at, err := openDirAt(t.root, ".")
	defer func() {
		if err != nil && at >= 0 {
			unix.Close(at)
		}
	}()
	depth, links := 0, 0
	for parts := strings.Split(dir, "/"); len(parts) > 0 && err == nil; {
		part := parts[0]
		parts = parts[1:]
		if t.steps++; t.steps > maxSteps {
			return at, limitf("more than %d steps through symlinks", maxSteps)
		}
		next := -1
		switch {
		case part == "" || part == ".", part == ".." && depth == 0:
			continue
		case part == "..":
			next, err = openDirAt(at, part)
			depth--
		default:
			next, err = openDirAt(at, part)
			if err == unix.ENOENT && make {
				next, err = t.makeParent(at, part)
			}
			depth++
		}
		if err == unix.ENOTDIR || err == unix.ELOOP { // openat(2): either, for a symlink
			to, linkErr := readLinkAt(at, part)
			if linkErr != nil {
				return at, unix.ENOTDIR
			}
			if links++; links > maxSymlinks {
				return at, unix.ELOOP
			}
			parts, err = append(strings.Split(to, "/"), parts...), nil
			if depth--; !path.IsAbs(to) {
				continue
			}
			next, err = openDirAt(t.root, ".")
			depth = 0
		}
		if err == nil {
			unix.Close(at)
			at = next
		}
		if depth > maxPathDepth {
			return at, limitf("more than %d directories deep", maxPathDepth)
		}
	}
	return at, err
}

// makeParent makes a directory that the layer has no entry for.
func (t *layerTree) makeParent(at int, name string) (int, error) {
	if err := unix.Mkdirat(at, name, 0o755); err != nil {
		return -1, err
	}
	if t.owners {
		// The group is that of at, if at is setgid. No symlink: it was made just now.
		if err := unix.Fchownat(at, name, 0, 0, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return -1, err
		}
	}
	return openDirAt(at, name)
}

func openDirAt(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func readLinkAt(at int, name string) (string, error) {
	target := make([]byte, maxPath)
	n, err := unix.Readlinkat(at, name, target)
	return string(target[:max(n, 0)]), err
}

// rooted is a path as the root sees it: clean, "." for the root.
func rooted(p string) string { return cmp.Or(path.Clean("/" + p)[1:], ".") }
