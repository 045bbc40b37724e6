//go:build !hot

package fuseoverlay

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Rename moves a name, or exchanges two.
func (fs *FS) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	switch {
	case fs.readOnly:
		return fuse.EROFS
	case in.Flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0:
		return fuse.EINVAL
	}
	if isMark, _ := mark(newName); isMark {
		return fuse.EINVAL
	}
	m := &move{fs: fs, exchange: in.Flags&unix.RENAME_EXCHANGE != 0}
	m.old = end{p: fs.node(in.NodeId), name: oldName}
	m.new = end{p: fs.node(in.Newdir), name: newName}
	// Data is copied first, with nobody waiting.
	for _, e := range []*end{&m.old, &m.new} {
		if e == &m.new && !m.exchange {
			break
		}
		fs.tree.RLock()
		n, err := fs.child(e.p, e.name)
		dir := err == nil && n.isDir()
		fs.tree.RUnlock()
		if err != nil {
			return status(err)
		}
		if !dir {
			err = fs.copyUp(n, everything)
		}
		fs.unlookup(n)
		if err != nil {
			return status(err)
		}
	}
	fs.tree.Lock()
	defer fs.tree.Unlock()
	return status(m.do())
}

// move is a rename(2) at work.
type move struct {
	fs       *FS
	exchange bool
	old, new end
}

// end is one of its two.
type end struct {
	p     *node
	name  string
	n     *node // nil: there is nothing
	up    *held // of p
	dir   int   // of up
	below bool  // layers below have the name, too
}

func (m *move) do() error {
	fs := m.fs
	for _, e := range []*end{&m.old, &m.new} {
		if fs.dead(e.p) {
			return unix.ENOENT
		}
		n, err := fs.lookup(e.p, e.name, 0)
		if err != nil {
			return err
		}
		if n != nil {
			defer fs.unlookup(n)
		}
		e.n = n
	}
	if m.old.n == nil || m.exchange && m.new.n == nil {
		return unix.ENOENT
	}
	if m.old.n == m.new.n {
		return nil
	}
	for _, e := range []*end{&m.old, &m.new} {
		// What is merged of several layers would be so at its new place only with a redirect; mv copies then.
		moves := e == &m.old || m.exchange
		if moves && e.n.isDir() && (e.n.upper() == nil || len(e.n.dirs) > 1) {
			return unix.EXDEV
		}
		if moves && !e.n.up {
			return unix.ESTALE
		}
	}
	if !m.exchange && m.new.n != nil {
		switch {
		case m.new.n.isDir() && !m.old.n.isDir():
			return unix.EISDIR
		case !m.new.n.isDir() && m.old.n.isDir():
			return unix.ENOTDIR
		case m.new.n.isDir():
			if empty, err := fs.empty(m.new.n); err != nil {
				return err
			} else if !empty {
				return unix.ENOTEMPTY
			}
		}
	}
	for _, e := range []*end{&m.old, &m.new} {
		up, err := fs.upperDir(e.p)
		if err != nil {
			return err
		}
		if e.dir, err = fs.open(up); err != nil {
			return err
		}
		defer fs.done(up)
		e.up = up
		if e.below, err = fs.visibleBelow(e.p, e.name); err != nil {
			return err
		}
	}
	if m.exchange {
		return m.swap()
	}
	return m.replace()
}

// stayAlone sees to it that a directory shows nothing of what is below its new place.
func (m *move) stayAlone(from, to *end) error {
	if !from.n.isDir() || !to.below {
		return nil
	}
	return m.fs.setOpaque(from.dir, from.name)
}

func (m *move) swap() error {
	fs := m.fs
	if err := m.stayAlone(&m.old, &m.new); err != nil {
		return err
	}
	if err := m.stayAlone(&m.new, &m.old); err != nil {
		return err
	}
	if err := unix.Renameat2(m.old.dir, m.old.name, m.new.dir, m.new.name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	a, b := m.old.n, m.new.n
	fs.abandon(m.old.p, m.old.name, a)
	fs.abandon(m.new.p, m.new.name, b)
	m.settle(a, &m.new)
	m.settle(b, &m.old)
	return nil
}

func (m *move) replace() error {
	fs := m.fs
	if err := m.stayAlone(&m.old, &m.new); err != nil {
		return err
	}
	target := m.new.n
	exchange := false // with what lies at the new place, and is no whole file
	if target == nil {
		var st unix.Stat_t
		exchange = m.old.n.isDir() && lstatat(m.new.dir, m.new.name, &st) == nil // a whiteout
	} else if own := target.upper(); own != nil {
		// Somebody may still be in it.
		if _, err := fs.open(own); err != nil {
			return err
		}
		defer fs.done(own)
		fs.fds.pin(&own.descriptor, true)
		if err := fs.clear(own); err != nil {
			return err
		}
		_ = unix.Unlinkat(m.new.dir, m.new.name+"/"+opaqueMark, 0)
	} else if target.up && fs.lastName(target) {
		if err := fs.pin(target); err != nil {
			return err
		}
	}
	if err := m.rename(exchange); err != nil {
		if target != nil && !target.isDir() {
			fs.unpin(target)
		}
		return err
	}
	fs.unhide(m.new.up, m.new.dir, m.new.name)
	if target != nil {
		fs.abandon(m.new.p, m.new.name, target)
	}
	fs.abandon(m.old.p, m.old.name, m.old.n)
	m.settle(m.old.n, &m.new)
	fs.lists.changed(m.old.p)
	return nil
}

// rename does it in the upper layer, and leaves a whiteout where that must hide what is below.
func (m *move) rename(exchange bool) error {
	fs := m.fs
	if exchange {
		err := unix.Renameat2(m.old.dir, m.old.name, m.new.dir, m.new.name, unix.RENAME_EXCHANGE)
		if err == nil {
			// The whiteout is at the old place now.
			if m.old.below {
				return nil
			}
			return unix.Unlinkat(m.old.dir, m.old.name, 0)
		}
		if err := unix.Unlinkat(m.new.dir, m.new.name, 0); err != nil {
			return err
		}
	}
	if !m.old.below {
		return unix.Renameat(m.old.dir, m.old.name, m.new.dir, m.new.name)
	}
	if !fs.marks {
		err := unix.Renameat2(m.old.dir, m.old.name, m.new.dir, m.new.name, unix.RENAME_WHITEOUT)
		if err != unix.EINVAL && err != unix.EPERM && err != unix.EOPNOTSUPP && err != unix.ENOSYS {
			return err
		}
	}
	// The mark counts for what is below, not for the file beside it.
	if err := fs.hideByMark(m.old.up, m.old.dir, m.old.name); err != nil {
		return err
	}
	return unix.Renameat(m.old.dir, m.old.name, m.new.dir, m.new.name)
}

// settle notes where n is now.
func (m *move) settle(n *node, at *end) {
	fs := m.fs
	fs.link(at.p, at.name, n)
	if own := n.upper(); own != nil {
		own.parent, own.name = at.up, at.name
	}
	fs.lists.changed(at.p)
}
