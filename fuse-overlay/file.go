//go:build !hot

package fuseoverlay

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// file returns the data of a regular file, to be handed back with fds.done. With write it
// is in the upper layer. FS.tree is not held.
func (fs *FS) file(n *node, write bool) (*descriptor, int, error) {
	if d, fd, ok := fs.ready(n, write); ok {
		return d, fd, nil
	}
	if !n.isRegular() {
		return nil, -1, unix.EINVAL
	}
	if write {
		if err := fs.copyUp(n, everything); err != nil {
			return nil, -1, err
		}
	}
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	if d, fd, ok := fs.ready(n, write); ok {
		return d, fd, nil
	}
	at, err := fs.at(n)
	if err != nil {
		return nil, -1, err
	}
	defer at.done()
	n.data.Lock()
	defer n.data.Unlock()
	writable := n.up && !fs.readOnly
	var fd int
	switch {
	case at.follow: // it has no name, and was opened read-only
		return nil, -1, unix.EACCES
	case !writable:
		fd, err = fs.openLower(at.dir, at.name)
	default:
		fd, err = fs.fds.openat(at.dir, at.name, unix.O_RDWR|unix.O_NOFOLLOW, 0)
		if err != nil && !write {
			writable = false
			fd, err = fs.openLower(at.dir, at.name)
		}
	}
	if err != nil {
		return nil, -1, err
	}
	if n.file != nil {
		if writable == n.writable {
			// Opened before; closed since, unless another was quicker.
			return n.file, fs.fds.put(n.file, fd), nil
		}
		fs.fds.drop(n.file)
	}
	n.file, n.writable = &descriptor{}, writable
	return n.file, fs.fds.put(n.file, fd), nil
}

// ready returns the descriptor if it is open, and does for writing.
func (fs *FS) ready(n *node, write bool) (*descriptor, int, bool) {
	n.data.Lock()
	defer n.data.Unlock()
	if n.file == nil || write && !n.writable {
		return nil, -1, false
	}
	fd, ok := fs.fds.use(n.file)
	return n.file, fd, ok
}

// reading is the answer to a read: data goes from the file to the kernel without being seen here.
type reading struct {
	fs   *FS
	d    *descriptor
	fd   int
	at   int64
	size int
}

// Seekable is how go-fuse wants it to be spliced.
func (r *reading) Seekable() (fd uintptr, off int64, size int) { return uintptr(r.fd), r.at, r.size }

// Size is how much may come.
func (r *reading) Size() int { return r.size }

// Done hands the descriptor back.
func (r *reading) Done() { r.fs.fds.done(r.d) }

// Bytes reads into buf, where it cannot be spliced.
func (r *reading) Bytes(buf []byte) ([]byte, fuse.Status) {
	buf = buf[:min(len(buf), r.size)]
	n, err := retry(func() (int, error) { return unix.Pread(r.fd, buf, r.at) })
	if err != nil {
		return nil, status(err)
	}
	return buf[:n], fuse.OK
}

// small is a read that has been copied.
type small struct{ data []byte }

// Slices tells go-fuse to write it as it is; it would try to splice it otherwise, and find that it cannot.
func (s small) Slices() ([][]byte, fuse.Status) { return [][]byte{s.data}, fuse.OK }

// Bytes, Size and Done complete the interface.
func (s small) Bytes([]byte) ([]byte, fuse.Status) { return s.data, fuse.OK }

// Size is how much has come.
func (s small) Size() int { return len(s.data) }

// Done has nothing to give back.
func (s small) Done() {}

// splicedFrom is how large a read must be for splice(2) to be quicker than a copy.
const splicedFrom = 64 << 10

// Read reads.
func (fs *FS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	d, fd, err := fs.file(fs.node(in.NodeId), false)
	if err != nil {
		return nil, status(err)
	}
	if len(buf) >= splicedFrom {
		return &reading{fs: fs, d: d, fd: fd, at: int64(in.Offset), size: len(buf)}, fuse.OK
	}
	defer fs.fds.done(d)
	n, err := retry(func() (int, error) { return unix.Pread(fd, buf, int64(in.Offset)) })
	if err != nil {
		return nil, status(err)
	}
	return small{buf[:n]}, fuse.OK
}

// Writev writes.
func (fs *FS) Writev(_ <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	n := fs.node(in.NodeId)
	d, fd, err := fs.file(n, true)
	if err != nil {
		return 0, status(err)
	}
	defer fs.fds.done(d)
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := dropPrivileges(fd); err != nil {
			return 0, status(err)
		}
	}
	written := 0
	for _, part := range data {
		for len(part) > 0 {
			n, err := retry(func() (int, error) { return unix.Pwrite(fd, part, int64(in.Offset)+int64(written)) })
			if err != nil && written == 0 {
				return 0, status(err)
			}
			if err != nil || n == 0 {
				return uint32(written), fuse.OK
			}
			part, written = part[n:], written+n
		}
	}
	return uint32(written), fuse.OK
}

// dropPrivileges takes the setuid and setgid bits from a file that somebody without CAP_FSETID writes to.
func dropPrivileges(fd int) error {
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		return err
	}
	mode := st.Mode & 0o7777
	mode &^= unix.S_ISUID
	if mode&unix.S_IXGRP != 0 {
		mode &^= unix.S_ISGID
	}
	if mode == st.Mode&0o7777 {
		return nil
	}
	return unix.Fchmod(fd, mode)
}

// Flush is of no use: the kernel has written, and does not ask again.
func (fs *FS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Fsync writes to the disk what is in the upper layer.
func (fs *FS) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n := fs.node(in.NodeId)
	fs.tree.RLock()
	up := n.up
	fs.tree.RUnlock()
	if fs.volatile || !up || fs.readOnly {
		return fuse.OK
	}
	d, fd, err := fs.file(n, true)
	if err != nil {
		return status(err)
	}
	defer fs.fds.done(d)
	if in.FsyncFlags&1 != 0 {
		_, err = retry(func() (int, error) { return 0, unix.Fdatasync(fd) })
	} else {
		_, err = retry(func() (int, error) { return 0, unix.Fsync(fd) })
	}
	return status(err)
}

// FsyncDir is Fsync for the names in a directory.
func (fs *FS) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n := fs.node(in.NodeId)
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	up := n.upper()
	if fs.volatile || up == nil || fs.readOnly {
		return fuse.OK
	}
	dir, err := fs.open(up)
	if err != nil {
		return status(err)
	}
	defer fs.done(up)
	fd, err := fs.fds.openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return status(err)
	}
	defer unix.Close(fd)
	_, err = retry(func() (int, error) { return 0, unix.Fsync(fd) })
	return status(err)
}

// Fallocate makes room, or holes.
func (fs *FS) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	d, fd, err := fs.file(fs.node(in.NodeId), true)
	if err != nil {
		return status(err)
	}
	defer fs.fds.done(d)
	if in.Uid != 0 {
		if err := dropPrivileges(fd); err != nil {
			return status(err)
		}
	}
	_, err = retry(func() (int, error) {
		return 0, unix.Fallocate(fd, in.Mode, int64(in.Offset), int64(in.Length))
	})
	return status(err)
}

// Lseek finds data and holes.
func (fs *FS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	d, fd, err := fs.file(fs.node(in.NodeId), false)
	if err != nil {
		return status(err)
	}
	defer fs.fds.done(d)
	at, err := unix.Seek(fd, int64(in.Offset), int(in.Whence))
	if err != nil {
		return status(err)
	}
	out.Offset = uint64(at)
	return fuse.OK
}

// CopyFileRange copies without the data leaving the kernel.
func (fs *FS) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	from, to := fs.node(in.NodeId), fs.node(in.NodeIdOut)
	dst, out, err := fs.file(to, true)
	if err != nil {
		return 0, status(err)
	}
	defer fs.fds.done(dst)
	src, fd, err := fs.file(from, false)
	if err != nil {
		return 0, status(err)
	}
	defer fs.fds.done(src)
	offIn, offOut := int64(in.OffIn), int64(in.OffOut)
	n, err := retry(func() (int, error) {
		return unix.CopyFileRange(fd, &offIn, out, &offOut, int(min(in.Len, 1<<30)), 0)
	})
	if err != nil {
		return 0, status(err)
	}
	return uint32(n), fuse.OK
}
