//go:build !hot

package fuseoverlay

import (
	"bytes"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A listing is what a directory has, merged. Each entry has a cookie that it keeps for as long as
// there is a listing: whoever reads on after a change misses nothing that was there all along, and
// sees nothing twice. The kernel keeps listings, too, so one is rarely asked for again.
type listing struct {
	entries []entry // by cookie
	next    uint64  // cookie
	stale   bool    // a name has come or gone
	// The last used first.
	newer, older *listing
	of           *node
}

type entry struct {
	cookie uint64
	name   string
	ino    uint64
	typ    uint8
	from   int // none of the directories above has it
}

// lists bounds what listings there are.
type lists struct {
	mu      sync.Mutex
	ring    listing
	entries int
}

const maxEntries = 1 << 18 // of all listings but the last used

func (l *listing) unlink() {
	if l.newer != nil {
		l.newer.older, l.older.newer = l.older, l.newer
		l.newer, l.older = nil, nil
	}
}

// use makes l the last used one, and forgets others.
func (c *lists) use(n *node, l *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ring.newer == nil {
		c.ring.newer, c.ring.older = &c.ring, &c.ring
	}
	if old := n.listing; old != nil && old != l {
		c.drop(old)
	}
	if l.newer == nil {
		c.entries += len(l.entries)
	}
	l.unlink()
	l.newer, l.older = &c.ring, c.ring.older
	l.older.newer, c.ring.older = l, l
	l.of, n.listing = n, l
	for c.entries > maxEntries && c.ring.newer != l {
		c.drop(c.ring.newer)
	}
}

func (c *lists) drop(l *listing) {
	if l.newer == nil {
		return
	}
	l.unlink()
	c.entries -= len(l.entries)
	if l.of.listing == l {
		l.of.listing = nil
	}
}

func (c *lists) of(n *node) *listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.listing
}

// changed says that a name of n has come, or gone, or moved to the upper layer.
func (c *lists) changed(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.listing != nil {
		n.listing.stale = true
	}
}

func (c *lists) isStale(l *listing) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return l.stale
}

// forgotten drops what there is of a directory that the kernel knows no more.
func (c *lists) forgotten(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.listing != nil {
		c.drop(n.listing)
	}
}

// list returns the listing to read on from offset. FS.tree is held.
func (fs *FS) list(n *node, offset uint64) (*listing, error) {
	old := fs.lists.of(n)
	if old != nil && (offset > 0 || !old.stale) {
		fs.lists.use(n, old)
		return old, nil
	}
	entries, err := fs.entries(n)
	if err != nil {
		return nil, err
	}
	l := &listing{entries: entries, next: 3} // 1 and 2 are . and ..
	if old != nil {
		l.keep(old)
	}
	for i := range l.entries {
		if l.entries[i].cookie == 0 {
			l.entries[i].cookie = l.next
			l.next++
		}
	}
	fs.lists.use(n, l)
	return l, nil
}

// keep gives entries the cookies that they have had, and their places.
func (l *listing) keep(old *listing) {
	at := make(map[string]int, len(l.entries))
	for i := range l.entries {
		at[l.entries[i].name] = i
	}
	l.next = old.next
	ordered := make([]entry, 0, len(l.entries))
	for i := range old.entries {
		if j, ok := at[old.entries[i].name]; ok {
			e := l.entries[j]
			e.cookie = old.entries[i].cookie
			l.entries[j].cookie = e.cookie
			ordered = append(ordered, e)
		}
	}
	for i := range l.entries {
		if l.entries[i].cookie == 0 {
			ordered = append(ordered, l.entries[i])
		}
	}
	l.entries = ordered
}

// entries reads the directories of n. FS.tree is held.
func (fs *FS) entries(n *node) ([]entry, error) {
	var entries []entry
	var seen map[string]bool // also of names that are deleted below
	if len(n.dirs) > 1 {
		seen = map[string]bool{}
	}
	for i, h := range n.dirs {
		var hidden []string
		last := i == len(n.dirs)-1
		err := fs.readNames(h, func(raw []byte, ino uint64, typ uint8) error {
			if bytes.HasPrefix(raw, []byte(markPrefix)) {
				if _, hides := mark(string(raw)); hides != "" && !last {
					hidden = append(hidden, hides)
				}
				return nil
			}
			if seen != nil && seen[string(raw)] { // no copy is made
				return nil
			}
			name := string(raw)
			if typ == unix.DT_CHR || typ == unix.DT_UNKNOWN {
				var st unix.Stat_t
				if err := fs.lstat(h, name, &st); err == unix.ENOENT {
					return nil
				} else if err != nil {
					return err
				}
				typ = uint8(st.Mode & unix.S_IFMT >> 12)
				if isWhiteout(&st) {
					if seen != nil {
						seen[name] = true
					}
					return nil
				}
			}
			if seen != nil && !last {
				seen[name] = true
			}
			entries = append(entries, entry{name: name, ino: ino, typ: typ, from: i})
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, name := range hidden {
			seen[name] = true
		}
	}
	return entries, nil
}

// empty says whether a directory has nothing that can be seen. FS.tree is held.
func (fs *FS) empty(n *node) (bool, error) {
	entries, err := fs.entries(n)
	return len(entries) == 0, err
}

// ReadDir lists names.
func (fs *FS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return fs.readDir(in, out, false)
}

// ReadDirPlus lists names, and what Lookup would say of each.
func (fs *FS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return fs.readDir(in, out, true)
}

func (fs *FS) readDir(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	n := fs.node(in.NodeId)
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	if fs.dead(n) {
		return fuse.OK
	}
	l, err := fs.list(n, in.Offset)
	if err != nil {
		return status(err)
	}
	fresh := !fs.lists.isStale(l)
	add := func(e fuse.DirEntry) (*fuse.EntryOut, bool) {
		if plus {
			o := out.AddDirLookupEntry(e)
			return o, o != nil
		}
		return nil, out.AddDirEntry(e)
	}
	above := n
	if up, named := fs.nameOf(n); named {
		above = up.parent
	}
	for i, dot := range []fuse.DirEntry{{Name: ".", Ino: n.attr.Ino}, {Name: "..", Ino: above.attr.Ino}} {
		dot.Off, dot.Mode = uint64(i)+1, unix.S_IFDIR
		if in.Offset <= uint64(i) {
			if _, ok := add(dot); !ok {
				return fuse.OK
			}
		}
	}
	for i := l.after(in.Offset); i < len(l.entries); i++ {
		e := &l.entries[i]
		d := fuse.DirEntry{Name: e.name, Mode: uint32(e.typ) << 12, Off: e.cookie, Ino: fs.entryNumber(n, e)}
		o, ok := add(d)
		if !ok {
			break
		}
		if !plus {
			continue
		}
		// What goes wrong here, a lookup will find, too.
		from := 0
		if fresh {
			from = e.from
		}
		child, err := fs.lookup(n, e.name, from)
		if err != nil || child == nil {
			continue
		}
		if err := fs.answer(child, o); err != nil {
			*o = fuse.EntryOut{}
			fs.unlookup(child)
			continue
		}
		out.FixMode(o.Mode)
	}
	return fuse.OK
}

// after is the index of the first entry behind a cookie.
func (l *listing) after(cookie uint64) int {
	low, high := 0, len(l.entries)
	for low < high {
		if mid := (low + high) / 2; l.entries[mid].cookie <= cookie {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// entryNumber is the inode number of an entry; without asking for more, if that is possible.
func (fs *FS) entryNumber(n *node, e *entry) uint64 {
	if child := fs.known(n, e.name); child != nil {
		return child.attr.Ino
	}
	if h := n.dirs[min(e.from, len(n.dirs)-1)]; len(n.dirs) == 1 && (!h.layer.upper || e.typ == unix.DT_DIR) {
		return fs.number(&unix.Stat_t{Ino: e.ino, Dev: h.layer.dev})
	}
	// A directory has the number of one below, and what has been copied up that of its origin.
	f, err := fs.find(n, e.name, 0)
	if err != nil || f == nil {
		return e.ino
	}
	return f.ino
}
