//go:build !hot

package fuseoverlay

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// without says that a node has no extended attributes at all; so programs are started, and files written
// to for the first time, without the file system being asked for security.capability. FS.tree is held.
func (fs *FS) without(n *node, at *spot) bool {
	if n.noXattrs.Load() {
		return true
	}
	n.data.Lock()
	defer n.data.Unlock()
	names, err := listXattrs(at.path(), at.follow)
	if err != nil || len(names) > 0 {
		return false
	}
	n.noXattrs.Store(true)
	return true
}

// GetXAttr reads an attribute.
func (fs *FS) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	n := fs.node(in.NodeId)
	if n.noXattrs.Load() {
		return 0, fuse.ENOATTR
	}
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	at, err := fs.at(n)
	if err != nil {
		return 0, status(err)
	}
	defer at.done()
	size, err := getXattr(at.path(), storedXattr(name), dest, at.follow)
	switch {
	case err == nil && len(dest) == 0:
		return uint32(size), fuse.OK
	case err == unix.ENODATA:
		fs.without(n, &at)
	}
	return uint32(max(size, 0)), status(err)
}

// ListXAttr lists the names of attributes.
func (fs *FS) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	n := fs.node(in.NodeId)
	if n.noXattrs.Load() {
		return 0, fuse.OK
	}
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	at, err := fs.at(n)
	if err != nil {
		return 0, status(err)
	}
	defer at.done()
	names, err := listXattrs(at.path(), at.follow)
	if err != nil {
		return 0, status(err)
	}
	size, short := 0, false
	for _, stored := range names {
		name, shown := shownXattr(stored)
		if !shown {
			continue
		}
		if short = short || size+len(name)+1 > len(dest); !short {
			copy(dest[size:], name)
			dest[size+len(name)] = 0
		}
		size += len(name) + 1
	}
	if short {
		return uint32(size), fuse.ERANGE
	}
	return uint32(size), fuse.OK
}

// SetXAttr sets an attribute.
func (fs *FS) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	n := fs.node(in.NodeId)
	return fs.changeXattr(n, func(at *spot) error {
		n.data.Lock()
		defer n.data.Unlock()
		n.noXattrs.Store(false)
		return setXattr(at.path(), storedXattr(name), value, int(in.Flags), at.follow)
	})
}

// RemoveXAttr removes an attribute.
func (fs *FS) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	n := fs.node(in.NodeId)
	// Nothing is copied up for nothing.
	fs.tree.RLock()
	at, err := fs.at(n)
	if err == nil {
		_, err = getXattr(at.path(), storedXattr(name), nil, at.follow)
		at.done()
	}
	fs.tree.RUnlock()
	if err != nil {
		return status(err)
	}
	return fs.changeXattr(n, func(at *spot) error { return removeXattr(at.path(), storedXattr(name), at.follow) })
}

func (fs *FS) changeXattr(n *node, change func(*spot) error) fuse.Status {
	if fs.readOnly {
		return fuse.EROFS
	}
	if err := fs.toUpper(n, everything); err != nil {
		return status(err)
	}
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	at, err := fs.at(n)
	if err != nil {
		return status(err)
	}
	defer at.done()
	return status(change(&at))
}
