//go:build !hot

package fuseoverlay

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

type counter struct{ atomic.Uint64 }

// temp is a name that is not in use, in the work directory.
func (fs *FS) temp() string { return "#" + strconv.FormatUint(fs.temps.Add(1), 16) }

// openWork returns a directory for what is not yet whole, of the name that the kernel's overlay
// uses, emptied of what a killed server has left there.
func (fs *FS) openWork(dir *os.File, dev uint64) (int, error) {
	const name = "work"
	in := int(dir.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil {
		return -1, &os.PathError{Op: "stat", Path: dir.Name(), Err: err}
	}
	if st.Dev != dev {
		return -1, &os.PathError{Op: "use work directory", Path: dir.Name(), Err: unix.EXDEV}
	}
	if err := unix.Mkdirat(in, name, 0); err != nil && err != unix.EEXIST {
		return -1, &os.PathError{Op: "mkdir", Path: path.Join(dir.Name(), name), Err: err}
	}
	fd, err := unix.Openat(in, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path.Join(dir.Name(), name), Err: err}
	}
	h := &held{descriptor: descriptor{fd: fd, open: true, pinned: true}}
	var left []string
	err = fs.readNames(h, func(name []byte, _ uint64, _ uint8) error {
		left = append(left, string(name))
		return nil
	})
	if err != nil {
		return -1, &os.PathError{Op: "read", Path: path.Join(dir.Name(), name), Err: err}
	}
	fs.sweep(h, left)
	return fd, nil
}

// upperDir returns the directory of p in the upper layer, and makes it there if need be, and those
// above it. FS.tree is held for writing.
func (fs *FS) upperDir(p *node) (*held, error) {
	if fs.readOnly {
		return nil, unix.EROFS
	}
	var way []*node
	for at := p; at.upper() == nil; at = at.names[0].parent {
		if fs.dead(at) {
			return nil, unix.ENOENT
		}
		way = append(way, at)
	}
	for _, n := range slices.Backward(way) {
		if err := fs.copyUpDir(n); err != nil {
			return nil, err
		}
	}
	return p.upper(), nil
}

// openUpper is upperDir, and a descriptor of it until FS.done.
func (fs *FS) openUpper(p *node) (*held, int, error) {
	up, err := fs.upperDir(p)
	if err != nil {
		return nil, -1, err
	}
	dir, err := fs.open(up)
	return up, dir, err
}

// copyUpDir makes a directory in the upper layer, whose parent is there. FS.tree is held for writing.
func (fs *FS) copyUpDir(n *node) error {
	in := n.names[0]
	up := in.parent.upper()
	if err := fs.copyable(n); err != nil {
		return err
	}
	temp := fs.temp()
	if err := unix.Mkdirat(fs.work, temp, 0o700); err != nil {
		return err
	}
	made := false
	defer func() {
		if !made {
			_ = unix.Unlinkat(fs.work, temp, unix.AT_REMOVEDIR)
		}
	}()
	from, err := fs.at(n)
	if err != nil {
		return err
	}
	defer from.done()
	if err := fs.copyAttributes(&n.attr, &from, temp); err != nil {
		return err
	}
	if err := fs.publish(temp, up, in.name); err != nil {
		return err
	}
	made = true
	n.dirs = append([]*held{{layer: up.layer, parent: up, name: in.name}}, n.dirs...)
	n.up = true
	fs.lists.changed(n)
	fs.lists.changed(in.parent)
	return nil
}

// copyable refuses what has an owner that is not mapped: nobody could own the copy.
func (fs *FS) copyable(n *node) error {
	if n.attr.Uid == unmapped || n.attr.Gid == unmapped {
		return unix.EOVERFLOW
	}
	return nil
}

// publish moves what is whole from the work directory to its place. The directory it is in looks as if nothing
// had happened.
func (fs *FS) publish(temp string, up *held, name string) error {
	dir, err := fs.open(up)
	if err != nil {
		return err
	}
	defer fs.done(up)
	var st unix.Stat_t
	if err := fstat(dir, &st); err != nil {
		return err
	}
	if err := unix.Renameat(fs.work, temp, dir, name); err != nil {
		return err
	}
	_ = unix.UtimesNanoAt(dir, ".", []unix.Timespec{st.Atim, st.Mtim}, 0)
	return nil
}

// copyAttributes gives a copy in the work directory all but the data. Changing the owner comes first, for
// it takes away privileges.
func (fs *FS) copyAttributes(a *fuse.Attr, from *spot, temp string) error {
	if err := unix.Fchownat(fs.work, temp, int(a.Uid), int(a.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := fs.copyXattrs(from.path(), fdName(fs.work)+"/"+temp, from.follow); err != nil {
		return err
	}
	if a.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(fs.work, temp, a.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(fs.work, temp, []unix.Timespec{
		{Sec: int64(a.Atime), Nsec: int64(a.Atimensec)},
		{Sec: int64(a.Mtime), Nsec: int64(a.Mtimensec)},
	}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyXattrs copies attributes; the overlay's own stay where they say something.
func (fs *FS) copyXattrs(from, to string, follow bool) error {
	names, err := listXattrs(from, follow)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, shown := shownXattr(name); !shown {
			continue
		}
		value, err := readXattr(from, name, follow)
		if err == unix.ENODATA || err == unix.EPERM || err == unix.EOPNOTSUPP {
			continue
		}
		if err != nil {
			return err
		}
		err = setXattr(to, name, value, 0, false)
		// As overlayfs: what a file system or a namespace does not know, is not copied.
		if err != nil && err != unix.EOPNOTSUPP && !(err == unix.EPERM && strings.HasPrefix(name, "security.")) {
			return err
		}
	}
	return nil
}

const everything = int64(1<<63 - 1)

// copyUp moves what is no directory to the upper layer; of its data the first bytes up to a size. FS.tree is
// not held, nor by the callers.
func (fs *FS) copyUp(n *node, size int64) error {
	if fs.readOnly {
		return unix.EROFS
	}
	n.copying.Lock()
	defer n.copying.Unlock()
	from, done, err := fs.startCopy(n)
	if done || err != nil {
		return err
	}
	defer from.done()
	temp := fs.temp()
	fd, err := fs.copyFile(n, &from, temp, size)
	if err != nil {
		return err
	}
	return fs.endCopy(n, fd, temp)
}

// startCopy finds what is to be copied up, unless that is done already. Its place below stays where
// it is, whatever happens to the name.
func (fs *FS) startCopy(n *node) (from spot, done bool, err error) {
	fs.tree.Lock()
	defer fs.tree.Unlock()
	if n.up {
		return from, true, nil
	}
	if err := fs.copyable(n); err != nil {
		return from, false, err
	}
	if in, named := fs.nameOf(n); named {
		if _, err := fs.upperDir(in.parent); err != nil {
			return from, false, err
		}
	}
	from, err = fs.at(n)
	return from, false, err
}

// endCopy gives a copy its name, if that has not gone meanwhile.
func (fs *FS) endCopy(n *node, fd int, temp string) error {
	fs.tree.Lock()
	defer fs.tree.Unlock()
	in, named := fs.nameOf(n)
	if named {
		// Copying may have taken long, and the directory may have moved meanwhile.
		up, err := fs.upperDir(in.parent)
		if err == nil {
			err = fs.publish(temp, up, in.name)
		}
		if err != nil {
			unix.Close(fd)
			_ = unix.Unlinkat(fs.work, temp, 0)
			return err
		}
		fs.lists.changed(in.parent)
	} else {
		_ = unix.Unlinkat(fs.work, temp, 0)
	}
	n.data.Lock()
	defer n.data.Unlock()
	if n.file != nil {
		fs.fds.drop(n.file)
	}
	n.file, n.writable = &descriptor{pinned: !named}, n.isRegular()
	fs.fds.put(n.file, fd)
	fs.fds.done(n.file)
	n.up = true
	if n.attr.Nlink > 1 {
		// It was one file with others below, and is so no more; a backup must not take them for links.
		var st unix.Stat_t
		if err := fstat(fd, &st); err == nil {
			n.attr.Ino = fs.number(&st)
		}
	}
	n.noXattrs.Store(false)
	return nil
}

// copyFile makes a copy in the work directory, whole but for its name, and returns it open.
func (fs *FS) copyFile(n *node, from *spot, temp string, size int64) (fd int, err error) {
	a := n.attr
	defer func() {
		if err != nil {
			if fd >= 0 {
				unix.Close(fd)
			}
			_ = unix.Unlinkat(fs.work, temp, 0)
		}
	}()
	fd = -1
	switch {
	case n.isRegular():
		if fd, err = fs.fds.openat(fs.work, temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600); err != nil {
			return -1, err
		}
		src, err := fs.openLower(from.dir, from.name)
		if err != nil {
			return fd, err
		}
		err = copyData(fd, src, int64(a.Size), size)
		unix.Close(src)
		if err != nil {
			return fd, err
		}
	case a.Mode&unix.S_IFMT == unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		length, err := unix.Readlinkat(from.dir, from.name, buf)
		if err != nil {
			return fd, err
		}
		if err := unix.Symlinkat(string(buf[:length]), fs.work, temp); err != nil {
			return fd, err
		}
	default:
		var st unix.Stat_t
		if err := lstatat(from.dir, from.name, &st); err != nil {
			return fd, err
		}
		if err := unix.Mknodat(fs.work, temp, a.Mode, int(st.Rdev)); err != nil {
			return fd, err
		}
	}
	if err := fs.copyAttributes(&a, from, temp); err != nil {
		return fd, err
	}
	if n.isRegular() && a.Nlink == 1 {
		fs.setOrigin(n, fdName(fs.work)+"/"+temp)
	}
	if fd < 0 {
		return fs.fds.openat(fs.work, temp, unix.O_PATH|unix.O_NOFOLLOW, 0)
	}
	if !fs.volatile {
		// Or the name might outlive a power cut, and the data not.
		if _, err := retry(func() (int, error) { return 0, unix.Fsync(fd) }); err != nil {
			return fd, err
		}
	}
	return fd, nil
}

// openLower opens a file of a lower layer to read it, and leaves no trace of that if it may.
func (fs *FS) openLower(dir int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	fd, err := fs.fds.openat(dir, name, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = fs.fds.openat(dir, name, flags, 0)
	}
	return fd, err
}

// copyData copies the beginning of src, of a length, to an empty file: by sharing blocks, where the file
// system can; else in the kernel, and holes as holes; else by hand.
func copyData(dst, src int, length, size int64) error {
	if size >= length {
		if length == 0 || unix.IoctlFileClone(dst, src) == nil {
			return nil
		}
	}
	size = min(size, length)
	if err := unix.Ftruncate(dst, size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := unix.Seek(src, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		end := size
		if err == nil {
			if hole, err := unix.Seek(src, data, unix.SEEK_HOLE); err == nil {
				end = min(hole, size)
			}
		} else {
			data = at
		}
		if data >= size {
			return nil
		}
		if err := copyRange(dst, src, data, end); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func copyRange(dst, src int, from, to int64) error {
	in, out := from, from
	for in < to {
		n, err := retry(func() (int, error) { return unix.CopyFileRange(src, &in, dst, &out, int(min(to-in, 1<<30)), 0) })
		if err != nil {
			break // EXDEV, EINVAL, EOPNOTSUPP, ENOSYS; and what is serious, the other way will meet too
		}
		if n == 0 {
			return nil
		}
	}
	buf := make([]byte, 256<<10)
	for in < to {
		n, err := retry(func() (int, error) { return unix.Pread(src, buf[:min(to-in, int64(len(buf)))], in) })
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if err := writeAll(dst, buf[:n], in); err != nil {
			return err
		}
		in += int64(n)
	}
	return nil
}

func writeAll(fd int, data []byte, at int64) error {
	for len(data) > 0 {
		n, err := retry(func() (int, error) { return unix.Pwrite(fd, data, at) })
		if err != nil {
			return err
		}
		data, at = data[n:], at+int64(n)
	}
	return nil
}

// setOrigin notes where a copy comes from: that is where its inode number is found when it is looked up
// the next time. Without extended attributes it will have another then.
func (fs *FS) setOrigin(n *node, to string) {
	name := n.lower.name
	for h := n.lower.dir; h.parent != nil; h = h.parent {
		name = h.name + "/" + name
		if len(name) > maxRedirect {
			return
		}
	}
	_ = setXattr(to, xattrOrigin, []byte(name), 0, false)
}

// origin is the inode number of what a file in the upper layer was copied from.
func (fs *FS) origin(h *held, name string, st *unix.Stat_t) (uint64, bool) {
	if st.Mode&unix.S_IFMT != unix.S_IFREG || len(fs.layers) == 1 {
		return 0, false
	}
	dir, err := fs.open(h)
	if err != nil {
		return 0, false
	}
	value, err := readXattr(fdName(dir)+"/"+name, xattrOrigin, false)
	fs.done(h)
	if err != nil {
		return 0, false
	}
	from, _, err := parseRedirect(append([]byte{'/'}, value...))
	if err != nil {
		return 0, false
	}
	for _, l := range fs.layers[1:] {
		at := l.root
		for _, name := range from[:len(from)-1] {
			at = &held{layer: l, parent: at, name: name}
		}
		var found unix.Stat_t
		err := fs.lstat(at, from[len(from)-1], &found)
		for ; at != l.root; at = at.parent {
			fs.fds.drop(&at.descriptor)
		}
		if err == nil && found.Mode&unix.S_IFMT == st.Mode&unix.S_IFMT && found.Nlink == 1 {
			return fs.number(&found), true
		}
	}
	return 0, false
}
