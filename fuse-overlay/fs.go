//go:build !hot

package fuseoverlay

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Options is how a stack of directories is to be served.
type Options struct {
	// Lower are the read-only layers, topmost first. Nothing changes them while they are served.
	Lower []*os.File
	// Upper takes all changes, and Work, beside it on its file system, what is not yet whole. Without
	// them the file system is read-only.
	Upper, Work *os.File
	// Volatile is for an upper layer that nobody will miss after a crash: fsync(2) does nothing.
	Volatile bool
}

// FS answers the kernel's questions.
type FS struct {
	fuse.RawFileSystem // what is not implemented here is not known to the kernel: ENOSYS
	server             *fuse.Server

	layers   []*layer // topmost first
	readOnly bool
	volatile bool
	work     int // a directory for what is not yet whole
	temps    counter
	marks    bool // whiteouts cannot be made as devices, and are files: FS.tree
	fds      *descriptors
	dents    sync.Pool
	devices  []uint64 // FS.mu; see number
	root     *node

	// tree guards names, and where nodes lie. It is held for writing while a name changes, and while
	// something is moved to the upper layer, but not while data is copied.
	tree sync.RWMutex

	mu     sync.RWMutex
	nodes  map[uint64]*node
	nextID uint64
	linked map[inode]*node // files of several names in the upper layer

	lists lists
}

// forever is for how long the kernel may believe what it has been told: nobody else
// changes anything.
const forever = 1 << 30

func newFS(o *Options) (*FS, error) {
	fs := &FS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		fds:           newDescriptors(descriptorLimit()),
		nodes:         map[uint64]*node{},
		linked:        map[inode]*node{},
		nextID:        fuse.FUSE_ROOT_ID + 1,
		readOnly:      o.Upper == nil,
		volatile:      o.Volatile,
		work:          -1,
	}
	fs.dents.New = func() any { b := make([]byte, 32<<10); return &b }
	fs.root = &node{id: fuse.FUSE_ROOT_ID, lookups: 1, up: o.Upper != nil}
	fs.nodes[fuse.FUSE_ROOT_ID] = fs.root
	dirs := o.Lower
	if o.Upper != nil {
		dirs = append([]*os.File{o.Upper}, dirs...)
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("no layers")
	}
	for i, dir := range dirs {
		root, err := openRoot(dir)
		if err != nil {
			return nil, err
		}
		l := &layer{root: root, upper: i == 0 && o.Upper != nil, last: i == len(dirs)-1}
		var st unix.Stat_t
		if err := unix.Fstat(root.fd, &st); err != nil {
			return nil, &os.PathError{Op: "stat", Path: dir.Name(), Err: err}
		}
		l.dev = st.Dev
		root.layer = l
		fs.layers = append(fs.layers, l)
		fs.root.dirs = append(fs.root.dirs, root)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fs.root.dirs[0].fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: dirs[0].Name(), Err: err}
	}
	fillAttr(&fs.root.attr, &st)
	fs.root.attr.Ino = fs.number(&st)
	if len(dirs) > 1 {
		fs.root.attr.Nlink = 1
	}
	if o.Upper == nil {
		return fs, nil
	}
	var err error
	if fs.work, err = fs.openWork(o.Work, st.Dev); err != nil {
		return nil, err
	}
	return fs, fs.tryWhiteout()
}

// tryWhiteout finds out what deletes names that layers below have. Devices 0:0 may be made by anybody (Linux 5.8),
// but not on an overlay; there it must be files .wh.NAME, which are not for an overlay over FUSE.
func (fs *FS) tryWhiteout() error {
	temp := fs.temp()
	err := unix.Mknodat(fs.work, temp, unix.S_IFCHR, 0)
	if err != nil {
		fs.marks = true
		temp = markPrefix + temp
		var fd int
		if fd, err = fs.fds.openat(fs.work, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0); err == nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return &os.PathError{Op: "make a whiteout", Path: "work directory", Err: err}
	}
	return unix.Unlinkat(fs.work, temp, 0)
}

// descriptorLimit leaves some for what comes in between.
func descriptorLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 256
	}
	return int(min(limit.Cur*3/4, 32<<10))
}

// Serve answers the kernel on device, an open /dev/fuse that has been mounted (see Mount), until
// that is unmounted. It calls ready when the kernel has been greeted.
//
// It must be alone in its process: it changes the umask, and the working directory.
func Serve(device *os.File, o Options, ready func()) error {
	fs, err := newFS(&o)
	if err != nil {
		return err
	}
	unix.Umask(0)
	// Names of descriptors, for system calls that know only paths.
	if err := os.Chdir("/proc/self/fd"); err != nil {
		return err
	}
	debug.SetGCPercent(200)
	fd, err := unix.FcntlInt(device.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	device.Close()
	server, err := fuse.NewServer(fs, "/dev/fd/"+fdName(fd), &fuse.MountOptions{
		Name:                     "sbx",
		MaxWrite:                 maxTransfer,
		MaxBackground:            64,
		MaxInflightRequestBytes:  maxInflight,
		EnableSymlinkCaching:     true,
		EnableAcl:                true,
		ExplicitDataCacheControl: true, // data changes by the kernel's own hand alone
		ExtraCapabilities: fuse.CAP_DONT_MASK | fuse.CAP_HANDLE_KILLPRIV_V2 |
			fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_ASYNC_DIO,
	})
	if err != nil {
		unix.Close(fd)
		return err
	}
	// A thread that waits for the kernel's next question holds on to a processor, as Go counts
	// them. With more of those than there are such threads, none need be taken away, and handed back.
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)+2))
	if ready != nil {
		ready()
	}
	server.Serve()
	return nil
}

// maxInflight is how much of requests may be read while others are answered, however many threads
// of the sandbox ask at once.
const maxInflight = 64 << 20

// dead says that a directory has been removed; whoever is still in it finds nothing. FS.tree is held.
func (fs *FS) dead(n *node) bool {
	if n == fs.root {
		return false
	}
	_, named := fs.nameOf(n)
	return !named
}

// String names the file system.
func (fs *FS) String() string { return "sbx" }

// Init is told by go-fuse that the kernel has been greeted.
func (fs *FS) Init(server *fuse.Server) { fs.server = server }

// status is an errno as the kernel wants it.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	if errno, ok := err.(unix.Errno); ok {
		return fuse.Status(errno)
	}
	return fuse.ToStatus(err)
}

// Lookup: see fuse.RawFileSystem, also for what follows.
func (fs *FS) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	p := fs.node(in.NodeId)
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	n, err := fs.lookup(p, name, 0)
	if err != nil {
		return status(err)
	}
	if n == nil { // and the kernel may remember that
		out.EntryValid = forever
		return fuse.OK
	}
	if err := fs.answer(n, out); err != nil {
		fs.unlookup(n)
		return status(err)
	}
	return fuse.OK
}

// lookup returns the node of name in p, with one more reference of the kernel's; nil if
// there is none. It is in none of the first directories of p. FS.tree is held.
func (fs *FS) lookup(p *node, name string, from int) (*node, error) {
	if n := fs.known(p, name); n != nil {
		fs.mu.Lock()
		// It may have been forgotten in between.
		if p.children[name] == n {
			n.lookups++
			fs.mu.Unlock()
			return n, nil
		}
		fs.mu.Unlock()
	}
	f, err := fs.find(p, name, from)
	if err != nil || f == nil {
		return nil, err
	}
	return fs.enter(p, name, f), nil
}

func (fs *FS) unlookup(n *node) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n.lookups--
	fs.collect(n)
}

// answer fills in what the kernel wants to know of a node. FS.tree is held.
func (fs *FS) answer(n *node, out *fuse.EntryOut) error {
	out.NodeId, out.Generation = n.id, 1
	out.EntryValid, out.AttrValid = forever, forever
	return fs.stat(n, &out.Attr)
}

// stat is of a node, wherever it lies. FS.tree is held.
func (fs *FS) stat(n *node, attr *fuse.Attr) error {
	if !n.up {
		*attr = n.attr
		return nil
	}
	var st unix.Stat_t
	if err := fs.statUpper(n, &st); err != nil {
		return err
	}
	fillAttr(attr, &st)
	attr.Ino = n.attr.Ino
	if n.attr.Uid == unmapped && attr.Uid == nobody {
		attr.Uid = unmapped
	}
	if n.attr.Gid == unmapped && attr.Gid == nobody {
		attr.Gid = unmapped
	}
	if len(n.dirs) > 1 {
		attr.Nlink = 1
	}
	return nil
}

func (fs *FS) statUpper(n *node, st *unix.Stat_t) error {
	if !n.isDir() {
		// An open descriptor is quicker than a name.
		n.data.Lock()
		d := n.file
		n.data.Unlock()
		if d != nil {
			if fd, ok := fs.fds.use(d); ok {
				defer fs.fds.done(d)
				return fstat(fd, st)
			}
		}
	}
	at, err := fs.at(n)
	if err != nil {
		return err
	}
	defer at.done()
	if at.follow {
		return fstat(at.dir, st)
	}
	return lstatat(at.dir, at.name, st)
}

func fstat(fd int, st *unix.Stat_t) error {
	_, err := retry(func() (int, error) { return 0, unix.Fstat(fd, st) })
	return err
}

// spot is where a system call finds a node: a name in an open directory. With follow it is
// an open file instead, which has no name, or a directory.
type spot struct {
	fs     *FS
	d      *descriptor
	dir    int
	name   string
	follow bool
}

func (s *spot) done() { s.fs.fds.done(s.d) }

// path is for system calls that know no descriptors: from the working directory.
func (s *spot) path() string {
	if s.follow {
		return fdName(s.dir)
	}
	return fdName(s.dir) + "/" + s.name
}

// at finds a node. FS.tree is held until the spot is done.
func (fs *FS) at(n *node) (spot, error) {
	if n.isDir() {
		fd, err := fs.open(n.dirs[0])
		return spot{fs: fs, d: &n.dirs[0].descriptor, dir: fd, follow: true}, err
	}
	in := n.lower
	if n.up {
		l, named := fs.nameOf(n)
		if !named {
			n.data.Lock()
			defer n.data.Unlock()
			if n.file == nil {
				return spot{}, unix.ESTALE
			}
			fd, ok := fs.fds.use(n.file)
			if !ok {
				return spot{}, unix.ESTALE
			}
			return spot{fs: fs, d: n.file, dir: fd, follow: true}, nil
		}
		in = place{l.parent.dirs[0], l.name}
	}
	fd, err := fs.open(in.dir)
	return spot{fs: fs, d: &in.dir.descriptor, dir: fd, name: in.name}, err
}

func fillAttr(a *fuse.Attr, st *unix.Stat_t) {
	a.Ino = st.Ino
	a.Size = uint64(st.Size)
	a.Blocks = uint64(st.Blocks)
	a.Atime, a.Atimensec = uint64(st.Atim.Sec), uint32(st.Atim.Nsec)
	a.Mtime, a.Mtimensec = uint64(st.Mtim.Sec), uint32(st.Mtim.Nsec)
	a.Ctime, a.Ctimensec = uint64(st.Ctim.Sec), uint32(st.Ctim.Nsec)
	a.Mode = st.Mode
	a.Nlink = uint32(st.Nlink)
	a.Uid, a.Gid = st.Uid, st.Gid
	// As the kernel's new_encode_dev.
	a.Rdev = unix.Minor(st.Rdev)&0xff | unix.Major(st.Rdev)<<8 | (unix.Minor(st.Rdev)&^0xff)<<12
	a.Blksize = uint32(st.Blksize)
}

// number is the inode number that a file of a layer has in the whole: its own, where all layers are
// on one file system; else that, with the number of the file system in bits that few use (as xino=on).
func (fs *FS) number(st *unix.Stat_t) uint64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for i, dev := range fs.devices {
		if dev == st.Dev {
			return st.Ino ^ uint64(i)<<56
		}
	}
	fs.devices = append(fs.devices, st.Dev)
	return st.Ino ^ uint64(len(fs.devices)-1)<<56
}

// GetAttr answers stat(2).
func (fs *FS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := fs.node(in.NodeId)
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	out.AttrValid = forever
	return status(fs.stat(n, &out.Attr))
}

// Forget takes back references that lookups gave.
func (fs *FS) Forget(id, lookups uint64) { fs.forget(id, lookups) }

// Readlink reads a symbolic link; the kernel keeps what it says.
func (fs *FS) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	n := fs.node(in.NodeId)
	fs.tree.RLock()
	defer fs.tree.RUnlock()
	at, err := fs.at(n)
	if err != nil {
		return nil, status(err)
	}
	defer at.done()
	buf := make([]byte, unix.PathMax)
	size, err := retry(func() (int, error) { return unix.Readlinkat(at.dir, at.name, buf) }) // or "", of what at.dir is
	if err != nil {
		return nil, status(err)
	}
	return buf[:size], fuse.OK
}

// StatFs is of the upper layer, where the room counts.
func (fs *FS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fs.root.dirs[0].fd, &st); err != nil {
		return status(err)
	}
	out.Blocks, out.Bfree, out.Bavail = st.Blocks, st.Bfree, st.Bavail
	out.Files, out.Ffree = st.Files, st.Ffree
	out.Bsize, out.Frsize, out.NameLen = uint32(st.Bsize), uint32(st.Frsize), uint32(st.Namelen)
	return fuse.OK
}

// Open and OpenDir are not needed: with ENOSYS the kernel does not ask again, keeps what it
// has read of files and directories, and never tells that they are closed (Linux 5.1).
func (fs *FS) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

// OpenDir: see Open.
func (fs *FS) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }
