//go:build !hot

package fuseoverlay

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// find looks name up in the directories of p, from the from-th on, and returns nil if it is in none, or
// deleted. The topmost decides what it is; directories below that one are merged with
// it until a file, a whiteout or an opaque directory ends that. FS.tree is held.
func (fs *FS) find(p *node, name string, from int) (*found, error) {
	if isMark, _ := mark(name); isMark {
		return nil, nil
	}
	var f *found
	for i := from; i < len(p.dirs); i++ {
		h := p.dirs[i]
		more, err := fs.findIn(h, name, &f)
		if err != nil || !more {
			return f, err
		}
		if i == len(p.dirs)-1 {
			break
		}
		if f != nil {
			m, err := fs.dirMarks(f.dirs[len(f.dirs)-1])
			if err != nil {
				return nil, err
			}
			if m.opaque {
				return f, nil
			}
			if m.redirect != nil && m.absolute {
				return f, fs.follow(f, m.redirect)
			}
			if m.redirect != nil {
				name = m.redirect[0]
				continue
			}
		}
		hidden, err := fs.hides(h, name)
		if err != nil || hidden {
			return f, err
		}
	}
	return f, nil
}

// findIn takes into account what h has of name, and says whether the layers below count, too.
func (fs *FS) findIn(h *held, name string, f **found) (more bool, err error) {
	var st unix.Stat_t
	err = fs.lstat(h, name, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return true, nil
	case err != nil:
		return false, err
	case isWhiteout(&st):
		return false, nil
	}
	fs.owners(h, name, &st)
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		dir := &held{layer: h.layer, parent: h, name: name}
		if *f == nil {
			*f = &found{st: st, up: h.layer.upper, ino: fs.number(&st)}
		} else if len((*f).dirs) == 1 && (*f).dirs[0].layer.upper {
			(*f).ino = fs.number(&st) // it had that number before it was copied up
		}
		(*f).dirs = append((*f).dirs, dir)
		return !h.layer.last, nil
	case *f != nil: // a file below a directory
		return false, nil
	}
	*f = &found{st: st, up: h.layer.upper, at: place{h, name}, ino: fs.number(&st)}
	if (*f).up {
		if ino, ok := fs.origin(h, name, &st); ok {
			(*f).ino = ino
		}
	}
	return false, nil
}

// unmapped is for the kernel an owner that has no number in the user namespace: so nobody
// has any capability over the file.
const unmapped = ^uint32(0) - 1

// nobody is who stands for them in what stat(2) says (/proc/sys/kernel/overflowuid).
const nobody = 65534

// owners tells owners that are not mapped, whom stat(2) calls nobody, from nobody: not even
// root may write what is theirs (inode_permission in the kernel).
func (fs *FS) owners(h *held, name string, st *unix.Stat_t) {
	if st.Uid != nobody && st.Gid != nobody || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return
	}
	dir, err := fs.open(h)
	if err != nil {
		return
	}
	defer fs.done(h)
	if unix.Faccessat2(dir, name, unix.W_OK, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW) != unix.EACCES {
		return
	}
	if st.Uid == nobody {
		st.Uid = unmapped
	}
	if st.Gid == nobody {
		st.Gid = unmapped
	}
}

// follow merges f with what the layers below its last directory have at path. Directories on the
// way may be redirected in their turn, for what is below them.
func (fs *FS) follow(f *found, path []string) error {
	layers := fs.layers
	for layers[0] != f.dirs[len(f.dirs)-1].layer {
		layers = layers[1:]
	}
	for _, l := range layers[1:] {
		at, next, stop := l.root, path, false
		for i, name := range path {
			var dir *found
			more, err := fs.findIn(at, name, &dir)
			if err != nil {
				return err
			}
			if dir == nil && more {
				hidden, err := fs.hides(at, name)
				if err != nil || hidden {
					return err
				}
				at = nil
				break
			}
			if dir == nil || dir.dirs == nil {
				return nil
			}
			if at = dir.dirs[0]; l.last {
				continue
			}
			m, err := fs.dirMarks(at)
			switch {
			case err != nil:
				return err
			case m.redirect != nil && m.absolute:
				next = slices.Concat(m.redirect, path[i+1:])
			case m.redirect != nil:
				next = slices.Concat(path[:i], m.redirect, path[i+1:])
			}
			stop = stop || m.opaque
		}
		if at != nil {
			f.dirs = append(f.dirs, at)
		}
		if stop {
			return nil
		}
		path = next
	}
	return nil
}
