//go:build !hot

package fuseoverlay

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// visibleBelow says whether layers below the upper one would show a name. FS.tree is held.
func (fs *FS) visibleBelow(p *node, name string) (bool, error) {
	from := 0
	if p.upper() != nil {
		from = 1
	}
	f, err := fs.find(p, name, from)
	return f != nil, err
}

// hide puts a whiteout where name is, or would be, in the upper directory up, in place of the file that
// is there. Devices 0:0 may be made by anybody (Linux 5.8), but not on an overlay. FS.tree is held for writing.
func (fs *FS) hide(up *held, dir int, name string, there bool) error {
	if !fs.marks {
		var err error
		if !there {
			err = unix.Mknodat(dir, name, unix.S_IFCHR, 0)
		} else {
			temp := fs.temp()
			if err = unix.Mknodat(fs.work, temp, unix.S_IFCHR, 0); err == nil {
				if err = unix.Renameat(fs.work, temp, dir, name); err != nil {
					_ = unix.Unlinkat(fs.work, temp, 0)
				}
				return err
			}
		}
		if err != unix.EPERM && err != unix.EOPNOTSUPP && err != unix.EINVAL {
			return err
		}
		fs.marks = true
	}
	if err := fs.hideByMark(up, dir, name); err != nil {
		return err
	}
	if there {
		return unix.Unlinkat(dir, name, 0)
	}
	return nil
}

// hideByMark makes a file .wh.NAME.
func (fs *FS) hideByMark(up *held, dir int, name string) error {
	if err := fs.read(up); err != nil {
		return err
	}
	fd, err := fs.fds.openat(dir, markPrefix+name, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	unix.Close(fd)
	up.scan.Lock()
	up.setMark(name, true)
	up.scan.Unlock()
	return nil
}

// unhide removes .wh.NAME, when there is a NAME that hides what is below.
func (fs *FS) unhide(up *held, dir int, name string) {
	up.scan.Lock()
	defer up.scan.Unlock()
	if up.known && !up.marks[name] {
		return
	}
	if err := unix.Unlinkat(dir, markPrefix+name, 0); err == nil || err == unix.ENOENT {
		up.setMark(name, false)
	}
}

// setOpaque says of a directory that nothing below shows in it.
func (fs *FS) setOpaque(dir int, name string) error {
	path := fdName(dir)
	if name != "" {
		path += "/" + name
	}
	err := setXattr(path, xattrOpaque, []byte("y"), 0, name == "")
	if err == nil || err != unix.EOPNOTSUPP && err != unix.EPERM {
		return err
	}
	fd, err := fs.fds.openat(dir, opaqueIn(name), unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func opaqueIn(name string) string {
	if name == "" {
		return opaqueMark
	}
	return name + "/" + opaqueMark
}

// pin keeps a file in the upper layer open that is about to lose its last known name: the kernel may
// have it open, and would find it no more. FS.tree is held for writing.
func (fs *FS) pin(n *node) error {
	if !n.up || n.isDir() {
		return nil
	}
	n.data.Lock()
	defer n.data.Unlock()
	if n.file != nil && fs.fds.pin(n.file, true) {
		return nil
	}
	l, named := fs.nameOf(n)
	if !named {
		return nil
	}
	up := l.parent.upper()
	dir, err := fs.open(up)
	if err != nil {
		return err
	}
	defer fs.done(up)
	flags := unix.O_PATH
	if n.isRegular() {
		flags = unix.O_RDWR
	}
	fd, err := fs.fds.openat(dir, l.name, flags|unix.O_NOFOLLOW, 0)
	if err != nil && n.isRegular() {
		fd, err = fs.fds.openat(dir, l.name, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
		flags = unix.O_RDONLY
	}
	if err != nil {
		return err
	}
	n.file, n.writable = &descriptor{pinned: true}, flags == unix.O_RDWR
	fs.fds.put(n.file, fd)
	fs.fds.done(n.file)
	return nil
}

func (fs *FS) unpin(n *node) {
	n.data.Lock()
	defer n.data.Unlock()
	if n.file != nil {
		fs.fds.pin(n.file, false)
	}
}

// lastName says whether n has no other name that is known.
func (fs *FS) lastName(n *node) bool {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return len(n.names) <= 1
}

// child returns the node of a name that the kernel is about to change. FS.tree is held. The
// reference is given back by unlookup.
func (fs *FS) child(p *node, name string) (*node, error) {
	if fs.dead(p) {
		return nil, unix.ENOENT
	}
	n, err := fs.lookup(p, name, 0)
	if err == nil && n == nil {
		err = unix.ENOENT
	}
	return n, err
}

// Unlink removes a name of a file.
func (fs *FS) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if fs.readOnly {
		return fuse.EROFS
	}
	p := fs.node(in.NodeId)
	fs.tree.Lock()
	defer fs.tree.Unlock()
	n, err := fs.child(p, name)
	if err != nil {
		return status(err)
	}
	defer fs.unlookup(n)
	if n.isDir() {
		return fuse.EISDIR
	}
	if err := fs.removeFile(p, n, name); err != nil {
		return status(err)
	}
	fs.abandon(p, name, n)
	fs.lists.changed(p)
	return fuse.OK
}

func (fs *FS) removeFile(p, n *node, name string) error {
	up, dir, err := fs.openUpper(p)
	if err != nil {
		return err
	}
	defer fs.done(up)
	if !n.up {
		return fs.hide(up, dir, name, false)
	}
	below, err := fs.visibleBelow(p, name)
	if err != nil {
		return err
	}
	last := fs.lastName(n)
	if last {
		if err := fs.pin(n); err != nil {
			return err
		}
	}
	if below {
		err = fs.hide(up, dir, name, true)
	} else {
		err = unix.Unlinkat(dir, name, 0)
	}
	if err != nil && last {
		fs.unpin(n)
	}
	return err
}

// Rmdir removes a directory in which nothing can be seen.
func (fs *FS) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if fs.readOnly {
		return fuse.EROFS
	}
	p := fs.node(in.NodeId)
	fs.tree.Lock()
	defer fs.tree.Unlock()
	n, err := fs.child(p, name)
	if err != nil {
		return status(err)
	}
	defer fs.unlookup(n)
	if !n.isDir() {
		return fuse.ENOTDIR
	}
	if err := fs.removeDir(p, n, name); err != nil {
		return status(err)
	}
	fs.abandon(p, name, n)
	fs.lists.changed(p)
	return fuse.OK
}

func (fs *FS) removeDir(p, n *node, name string) error {
	empty, err := fs.empty(n)
	if err != nil {
		return err
	}
	if !empty {
		return unix.ENOTEMPTY
	}
	up, dir, err := fs.openUpper(p)
	if err != nil {
		return err
	}
	defer fs.done(up)
	own := n.upper()
	if own == nil {
		return fs.hide(up, dir, name, false)
	}
	below, err := fs.visibleBelow(p, name)
	if err != nil {
		return err
	}
	// Somebody may still be in it.
	if _, err := fs.open(own); err != nil {
		return err
	}
	defer fs.done(own)
	fs.fds.pin(&own.descriptor, true)
	err = fs.removeUpperDir(up, own, dir, name, below)
	if err != nil {
		fs.fds.pin(&own.descriptor, false)
	}
	return err
}

func (fs *FS) removeUpperDir(up, own *held, dir int, name string, below bool) error {
	if !below {
		err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		if err != unix.ENOTEMPTY && err != unix.EEXIST {
			return err
		}
	}
	if err := fs.clear(own); err != nil {
		return err
	}
	if !below {
		_ = unix.Unlinkat(dir, name+"/"+opaqueMark, 0)
		return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	if !fs.marks {
		temp := fs.temp()
		err := unix.Mknodat(fs.work, temp, unix.S_IFCHR, 0)
		if err == nil {
			err = unix.Renameat2(fs.work, temp, dir, name, unix.RENAME_EXCHANGE)
			if err == nil {
				err = unix.Unlinkat(fs.work, temp, unix.AT_REMOVEDIR)
				if err == unix.ENOTEMPTY { // its .wh..wh..opq
					fs.sweepDir(fs.work, temp)
					err = nil
				}
				return err
			}
			_ = unix.Unlinkat(fs.work, temp, 0)
		}
	}
	// Never without something that hides what is below.
	if err := fs.hideByMark(up, dir, name); err != nil {
		return err
	}
	fs.sweepDir(dir, name)
	return nil
}

// sweepDir removes a directory with the marks in it.
func (fs *FS) sweepDir(dir int, name string) {
	_ = unix.Unlinkat(dir, name+"/"+opaqueMark, 0)
	_ = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// clear removes whiteouts from an upper directory in which nothing else is, having made it opaque.
func (fs *FS) clear(h *held) error {
	dir, err := fs.open(h)
	if err != nil {
		return err
	}
	defer fs.done(h)
	var names []string
	opaque := false
	err = fs.readNames(h, func(name []byte, _ uint64, _ uint8) error {
		if string(name) == opaqueMark {
			opaque = true
		} else {
			names = append(names, string(name))
		}
		return nil
	})
	if err != nil || len(names) == 0 {
		return err
	}
	if !opaque {
		if err := fs.setOpaque(dir, ""); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	h.scan.Lock()
	defer h.scan.Unlock()
	h.marks, h.over = nil, true
	return nil
}
