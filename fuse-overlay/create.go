//go:build !hot

package fuseoverlay

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A birth is something new in a directory.
type birth struct {
	mode  uint32 // with the type; without the umask
	umask uint32
	owner fuse.Owner
	make  func(dir int, name string, mode uint32) (fd int, err error) // fd is of a regular file, else -1
}

// create makes something new by that name, which is free, as far as the kernel knows, and returns its node.
func (fs *FS) create(parent uint64, name string, b *birth, out *fuse.EntryOut) fuse.Status {
	p := fs.node(parent)
	if isMark, _ := mark(name); isMark {
		return fuse.EINVAL // in a layer it would say something; as fuse-overlayfs
	}
	fs.tree.Lock()
	defer fs.tree.Unlock()
	n, err := fs.bear(p, name, b)
	if err != nil {
		return status(err)
	}
	if err := fs.answer(n, out); err != nil {
		fs.unlookup(n)
		return status(err)
	}
	return fuse.OK
}

// bear makes it. FS.tree is held for writing.
func (fs *FS) bear(p *node, name string, b *birth) (*node, error) {
	if fs.dead(p) {
		return nil, unix.ENOENT
	}
	up, dir, err := fs.openUpper(p)
	if err != nil {
		return nil, err
	}
	defer fs.done(up)
	hidden, err := fs.hides(up, name)
	if err != nil {
		return nil, err
	}
	isDir := b.mode&unix.S_IFMT == unix.S_IFDIR
	var fd int
	over := hidden && isDir // it must be opaque when it appears
	if !over {
		fd, err = fs.makeIn(p, up, dir, name, b)
		over = err == unix.EEXIST
	}
	if over {
		var st unix.Stat_t
		there := lstatat(dir, name, &st) == nil
		if there && !isWhiteout(&st) {
			return nil, unix.EEXIST
		}
		// Made beside its place, it has what the directory hands down, its group and its ACL.
		temp := tempPrefix + fs.temp()
		if fd, err = fs.makeIn(p, up, dir, temp, b); err == nil {
			err = fs.replaceWhiteout(dir, temp, name, isDir, there)
			if err != nil {
				if fd >= 0 {
					unix.Close(fd)
				}
				_ = unix.Unlinkat(dir, temp, map[bool]int{true: unix.AT_REMOVEDIR}[isDir])
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if hidden {
		fs.unhide(up, dir, name)
	}
	f := &found{up: true, at: place{up, name}}
	if err := lstatat(dir, name, &f.st); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, err
	}
	f.ino = fs.number(&f.st)
	if isDir {
		h := &held{layer: up.layer, parent: up, name: name, known: !over}
		f.dirs = []*held{h}
	}
	n := fs.enter(p, name, f)
	if fd >= 0 {
		n.data.Lock()
		n.file, n.writable = &descriptor{}, true
		fs.fds.put(n.file, fd)
		fs.fds.done(n.file)
		n.data.Unlock()
	}
	fs.lists.changed(p)
	return n, nil
}

// replaceWhiteout moves what has been made as temp over a whiteout, if there is one, in one step: what lies in
// layers below is never seen. A directory is opaque for the same reason.
func (fs *FS) replaceWhiteout(dir int, temp, name string, isDir, there bool) error {
	if !isDir {
		return unix.Renameat(dir, temp, dir, name)
	}
	if err := fs.setOpaque(dir, temp); err != nil {
		return err
	}
	if !there {
		return unix.Renameat(dir, temp, dir, name)
	}
	if err := unix.Renameat2(dir, temp, dir, name, unix.RENAME_EXCHANGE); err != nil {
		// A file system that cannot, NFS for one.
		if err := unix.Unlinkat(dir, name, 0); err != nil {
			return err
		}
		return unix.Renameat(dir, temp, dir, name)
	}
	return unix.Unlinkat(dir, temp, 0)
}

// makeIn makes it in dir, which is that of p in the upper layer, with its owner and mode.
func (fs *FS) makeIn(p *node, up *held, dir int, name string, b *birth) (fd int, err error) {
	mode := b.mode
	// A default ACL takes the place of the umask (acl(5)).
	if has, err := fs.hasDefaultACL(p, dir); err != nil {
		return -1, err
	} else if !has {
		mode &^= b.umask
	}
	if fd, err = b.make(dir, name, mode); err != nil {
		return -1, err
	}
	if b.owner.Uid == 0 && b.owner.Gid == 0 {
		return fd, nil
	}
	defer func() {
		if err != nil {
			if fd >= 0 {
				unix.Close(fd)
			}
			flags := 0
			if mode&unix.S_IFMT == unix.S_IFDIR {
				flags = unix.AT_REMOVEDIR
			}
			_ = unix.Unlinkat(dir, name, flags)
		}
	}()
	gid := int(b.owner.Gid)
	var st unix.Stat_t
	if err := fstat(dir, &st); err != nil {
		return fd, err
	}
	if st.Mode&unix.S_ISGID != 0 {
		gid = -1 // the directory's, which it has already
	}
	if err := unix.Fchownat(dir, name, int(b.owner.Uid), gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fd, err
	}
	if mode&(unix.S_ISUID|unix.S_ISGID) != 0 && mode&unix.S_IFMT == unix.S_IFREG { // gone with the owner
		var made unix.Stat_t
		if err := lstatat(dir, name, &made); err != nil {
			return fd, err
		}
		if err := unix.Fchmodat(dir, name, made.Mode&0o7777|mode&(unix.S_ISUID|unix.S_ISGID), 0); err != nil {
			return fd, err
		}
	}
	return fd, nil
}

func (fs *FS) hasDefaultACL(p *node, dir int) (bool, error) {
	if p.noXattrs.Load() {
		return false, nil
	}
	names, err := listXattrs(fdName(dir), true)
	if err != nil {
		return false, err
	}
	if len(names) == 0 {
		p.noXattrs.Store(true)
	}
	for _, name := range names {
		if name == "system.posix_acl_default" {
			return true, nil
		}
	}
	return false, nil
}

func makeRegular(fs *FS) func(int, string, uint32) (int, error) {
	return func(dir int, name string, mode uint32) (int, error) {
		return fs.fds.openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, mode&0o7777)
	}
}

// Create makes a file; that it is open, too, needs no word. See Open.
func (fs *FS) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return fs.create(in.NodeId, name, &birth{
		mode: in.Mode&0o7777 | unix.S_IFREG, umask: in.Umask, owner: in.Owner, make: makeRegular(fs),
	}, &out.EntryOut)
}

// Mknod makes anything but directories and links.
func (fs *FS) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	b := &birth{mode: in.Mode, umask: in.Umask, owner: in.Owner}
	switch in.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b.make = makeRegular(fs)
	default:
		if in.Mode&unix.S_IFMT == unix.S_IFCHR && in.Rdev == 0 {
			return fuse.EPERM // a whiteout; as overlayfs
		}
		b.make = func(dir int, name string, mode uint32) (int, error) {
			dev := unix.Mkdev(in.Rdev>>8&0xfff, in.Rdev&0xff|in.Rdev>>12&^0xff)
			return -1, unix.Mknodat(dir, name, mode, int(dev))
		}
	}
	return fs.create(in.NodeId, name, b, out)
}

// Mkdir makes a directory.
func (fs *FS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return fs.create(in.NodeId, name, &birth{
		mode: in.Mode&0o7777 | unix.S_IFDIR, umask: in.Umask, owner: in.Owner,
		make: func(dir int, name string, mode uint32) (int, error) {
			if err := unix.Mkdirat(dir, name, mode&0o7777); err != nil {
				return -1, err
			}
			return -1, nil
		},
	}, out)
}

// Symlink makes a symbolic link.
func (fs *FS) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return fs.create(in.NodeId, name, &birth{
		mode: unix.S_IFLNK | 0o777, owner: in.Owner,
		make: func(dir int, name string, _ uint32) (int, error) { return -1, unix.Symlinkat(target, dir, name) },
	}, out)
}

// Tmpfile makes a file that has no name (O_TMPFILE).
func (fs *FS) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	p := fs.node(in.NodeId)
	fs.tree.Lock()
	defer fs.tree.Unlock()
	if fs.dead(p) {
		return fuse.ENOENT
	}
	up, dir, err := fs.openUpper(p)
	if err != nil {
		return status(err)
	}
	defer fs.done(up)
	mode := in.Mode & 0o7777
	if has, err := fs.hasDefaultACL(p, dir); err != nil {
		return status(err)
	} else if !has {
		mode &^= in.Umask
	}
	fd, err := fs.fds.openat(dir, ".", unix.O_RDWR|unix.O_TMPFILE, mode)
	if err != nil {
		return status(err)
	}
	var st unix.Stat_t
	err = fstat(fd, &st)
	if err == nil && (in.Uid != 0 || in.Gid != 0) {
		if err = unix.Fchown(fd, int(in.Uid), int(in.Gid)); err == nil {
			err = fstat(fd, &st)
		}
	}
	if err != nil {
		unix.Close(fd)
		return status(err)
	}
	n := &node{lookups: 1, up: true, file: &descriptor{pinned: true}, writable: true}
	fillAttr(&n.attr, &st)
	n.attr.Ino = fs.number(&st)
	fs.fds.put(n.file, fd)
	fs.fds.done(n.file)
	fs.mu.Lock()
	n.id = fs.nextID
	fs.nextID++
	fs.nodes[n.id] = n
	fs.mu.Unlock()
	return status(fs.answer(n, &out.EntryOut))
}

// Link gives a file one more name.
func (fs *FS) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	n, p := fs.node(in.Oldnodeid), fs.node(in.NodeId)
	if isMark, _ := mark(name); isMark {
		return fuse.EINVAL
	}
	if err := fs.copyUp(n, everything); err != nil {
		return status(err)
	}
	fs.tree.Lock()
	defer fs.tree.Unlock()
	if err := fs.addName(n, p, name); err != nil {
		return status(err)
	}
	fs.mu.Lock()
	n.lookups++
	fs.mu.Unlock()
	if err := fs.answer(n, out); err != nil {
		fs.unlookup(n)
		return status(err)
	}
	return fuse.OK
}

func (fs *FS) addName(n, p *node, name string) error {
	if fs.dead(p) {
		return unix.ENOENT
	}
	up, dir, err := fs.openUpper(p)
	if err != nil {
		return err
	}
	defer fs.done(up)
	at, err := fs.at(n)
	if err != nil {
		return err
	}
	defer at.done()
	linkTo := func(name string) error {
		if !at.follow {
			return unix.Linkat(at.dir, at.name, dir, name, 0)
		}
		return unix.Linkat(unix.AT_FDCWD, fdName(at.dir), dir, name, unix.AT_SYMLINK_FOLLOW)
	}
	err = linkTo(name)
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err := lstatat(dir, name, &st); err == nil && !isWhiteout(&st) {
			return unix.EEXIST
		}
		temp := tempPrefix + fs.temp()
		if err = linkTo(temp); err == nil {
			if err = unix.Renameat(dir, temp, dir, name); err != nil {
				_ = unix.Unlinkat(dir, temp, 0)
			}
		}
	}
	if err != nil {
		return err
	}
	fs.unhide(up, dir, name)
	var st unix.Stat_t
	if err := lstatat(dir, name, &st); err != nil {
		return err
	}
	n.data.Lock()
	if n.file != nil { // it has a name again, if it had none
		fs.fds.pin(n.file, false)
	}
	n.data.Unlock()
	fs.link(p, name, n)
	fs.mu.Lock()
	n.key = inode{st.Dev, st.Ino}
	fs.linked[n.key] = n
	fs.mu.Unlock()
	fs.lists.changed(p)
	return nil
}
