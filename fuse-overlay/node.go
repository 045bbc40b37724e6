//go:build !hot

package fuseoverlay

import (
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// node is a file or directory that the kernel knows, by its id. Names and places are guarded
// by FS.tree; what the kernel holds of it, by FS.mu.
type node struct {
	id uint64
	// The kernel's references, those of nodes that have it as their parent, and the names in it
	// that the kernel knows: FS.mu.
	lookups, kids uint64
	children      map[string]*node

	// Where it is named; none when it has been deleted. A directory has one at most. FS.mu, and names
	// go only while FS.tree is held for writing.
	names []link
	// Where it lies: a directory in each of dirs, top first; anything else in the upper layer, by one
	// of its names, or else at lower. FS.tree.
	dirs  []*held
	up    bool
	lower place
	// What stat says. All of it holds in a lower layer, where nothing changes; in the upper one
	// only the inode's number and type do.
	attr fuse.Attr
	key  inode // in FS.linked, if it is there: FS.mu

	noXattrs atomic.Bool // it has none, for sure

	copying sync.Mutex // a copy up is under way; taken before FS.tree

	data     sync.Mutex // guards the following two; taken after FS.tree
	file     *descriptor
	writable bool

	listing *listing // FS.lists
}

type link struct {
	parent *node
	name   string
}

type place struct {
	dir  *held
	name string
}

// inode is one on the host.
type inode struct{ dev, ino uint64 }

func (n *node) isDir() bool     { return n.attr.Mode&unix.S_IFMT == unix.S_IFDIR }
func (n *node) isRegular() bool { return n.attr.Mode&unix.S_IFMT == unix.S_IFREG }

// upper is the directory in the upper layer, if it is there.
func (n *node) upper() *held {
	if len(n.dirs) > 0 && n.dirs[0].layer.upper {
		return n.dirs[0]
	}
	return nil
}

// node returns what the kernel calls id. It has looked that up, and not forgotten it.
func (fs *FS) node(id uint64) *node {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.nodes[id]
}

// nameOf is one of the names of a node.
func (fs *FS) nameOf(n *node) (link, bool) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	if len(n.names) == 0 {
		return link{}, false
	}
	return n.names[0], true
}

// known returns the node that the kernel has of a name, or had a moment ago.
func (fs *FS) known(p *node, name string) *node {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return p.children[name]
}

// found is what layers have of a name.
type found struct {
	dirs []*held // a directory
	at   place   // anything else
	up   bool
	st   unix.Stat_t // of the topmost
	ino  uint64
}

// enter makes a node of what was found, or finds the one that there is, and counts a
// reference of the kernel's to it.
func (fs *FS) enter(p *node, name string, f *found) *node {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if n := p.children[name]; n != nil {
		n.lookups++
		return n
	}
	isDir := f.st.Mode&unix.S_IFMT == unix.S_IFDIR
	key := inode{f.st.Dev, f.st.Ino}
	linked := f.up && !isDir && f.st.Nlink > 1
	if linked {
		if n := fs.linked[key]; n != nil {
			n.lookups++
			n.names = append(n.names, link{p, name})
			fs.adopt(p, name, n)
			return n
		}
	}
	n := &node{id: fs.nextID, lookups: 1, dirs: f.dirs, up: f.up, names: []link{{p, name}}}
	fs.nextID++
	if !f.up {
		n.lower = f.at
	}
	fillAttr(&n.attr, &f.st)
	n.attr.Ino = f.ino
	if len(f.dirs) > 1 {
		n.attr.Nlink = 1 // as overlayfs: nobody counts the directories in a merged one
	}
	fs.nodes[n.id] = n
	if linked {
		n.key, fs.linked[key] = key, n
	}
	fs.adopt(p, name, n)
	return n
}

// adopt notes that p has n by that name. FS.mu is held.
func (fs *FS) adopt(p *node, name string, n *node) {
	if p.children == nil {
		p.children = map[string]*node{}
	}
	p.children[name] = n
	p.kids++
}

// abandon notes that a name of n is gone. FS.tree is held for writing.
func (fs *FS) abandon(p *node, name string, n *node) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if p.children[name] != n {
		return
	}
	delete(p.children, name)
	p.kids--
	for i, l := range n.names {
		if l.parent == p && l.name == name {
			n.names = append(n.names[:i], n.names[i+1:]...)
			break
		}
	}
	fs.collect(p)
}

// link notes one more name of n. FS.tree is held for writing.
func (fs *FS) link(p *node, name string, n *node) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n.names = append(n.names, link{p, name})
	fs.adopt(p, name, n)
}

func (fs *FS) forget(id, lookups uint64) {
	fs.tree.RLock() // names of nodes are read
	defer fs.tree.RUnlock()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.nodes[id]
	if n == nil || id == fuse.FUSE_ROOT_ID {
		return
	}
	n.lookups -= min(lookups, n.lookups)
	fs.collect(n)
}

// collect removes n if the kernel does not know it, nor anything in it; and then what
// was kept for it alone. FS.mu is held.
func (fs *FS) collect(n *node) {
	for n.lookups == 0 && n.kids == 0 && n.id != fuse.FUSE_ROOT_ID && fs.nodes[n.id] == n {
		delete(fs.nodes, n.id)
		if fs.linked[n.key] == n {
			delete(fs.linked, n.key)
		}
		if n.file != nil {
			fs.fds.drop(n.file)
		}
		fs.lists.forgotten(n)
		for _, h := range n.dirs {
			fs.fds.drop(&h.descriptor) // whoever still goes by it opens it for that once
		}
		var next *node
		for _, l := range n.names {
			if l.parent.children[l.name] == n {
				delete(l.parent.children, l.name)
				l.parent.kids--
				if l.parent.kids == 0 {
					next = l.parent
				}
			}
		}
		if next == nil {
			return
		}
		n = next
	}
}
