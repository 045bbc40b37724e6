//go:build !hot

package fuseoverlay

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// SetAttr changes owner, mode, size and times.
func (fs *FS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if fs.readOnly {
		return fuse.EROFS
	}
	n := fs.node(in.NodeId)
	size := everything
	if in.Valid&fuse.FATTR_SIZE != 0 {
		size = int64(in.Size)
	}
	if err := fs.toUpper(n, size); err != nil {
		return status(err)
	}
	if in.Valid&fuse.FATTR_SIZE != 0 {
		if err := fs.truncate(n, in); err != nil {
			return status(err)
		}
	}
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	at, err := fs.at(n)
	if err != nil {
		return status(err)
	}
	defer at.done()
	if err := setAttributes(n, &at, in); err != nil {
		return status(err)
	}
	out.AttrValid = forever
	return status(fs.stat(n, &out.Attr))
}

// toUpper has a node in the upper layer; of a file's data, as much as there is up to a size. FS.tree is not held.
func (fs *FS) toUpper(n *node, size int64) error {
	if !n.isDir() {
		fs.tree.RLock()
		up := n.up
		fs.tree.RUnlock()
		if up {
			return nil
		}
		return fs.copyUp(n, size)
	}
	fs.tree.RLock()
	done := n.upper() != nil
	fs.tree.RUnlock()
	if done {
		return nil
	}
	fs.tree.Lock()
	defer fs.tree.Unlock()
	_, err := fs.upperDir(n)
	return err
}

func (fs *FS) truncate(n *node, in *fuse.SetAttrIn) error {
	d, fd, err := fs.file(n, true)
	if err != nil {
		return err
	}
	defer fs.fds.done(d)
	if in.Valid&fuse.FATTR_KILL_SUIDGID != 0 {
		if err := dropPrivileges(fd); err != nil {
			return err
		}
	}
	_, err = retry(func() (int, error) { return 0, unix.Ftruncate(fd, int64(in.Size)) })
	return err
}

func setAttributes(n *node, at *spot, in *fuse.SetAttrIn) error {
	dir, name, flags := at.dir, at.name, unix.AT_SYMLINK_NOFOLLOW
	if at.follow {
		dir, name, flags = unix.AT_FDCWD, fdName(at.dir), 0
	}
	if in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		uid, gid := -1, -1
		if in.Valid&fuse.FATTR_UID != 0 {
			uid = int(in.Uid)
		}
		if in.Valid&fuse.FATTR_GID != 0 {
			gid = int(in.Gid)
		}
		if err := unix.Fchownat(dir, name, uid, gid, flags); err != nil {
			return err
		}
	}
	if in.Valid&fuse.FATTR_MODE != 0 {
		if n.attr.Mode&unix.S_IFMT == unix.S_IFLNK {
			return unix.EOPNOTSUPP
		}
		if err := unix.Fchmodat(dir, name, in.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	if in.Valid&(fuse.FATTR_ATIME|fuse.FATTR_MTIME) == 0 {
		return nil
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{
		stamp(in.Valid, fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec),
		stamp(in.Valid, fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec),
	}, flags)
}

func stamp(valid, set, now uint32, sec uint64, nsec uint32) unix.Timespec {
	switch {
	case valid&set == 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case valid&now != 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
}
