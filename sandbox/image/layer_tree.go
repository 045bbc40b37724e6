//go:build !hot

package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const whiteoutPrefix = ".wh."

// layerTree makes the files of a layer below a directory, as root of a user namespace. The
// layer is hostile: it may put a symlink wherever it likes, and write through it later. So
// directories are found within the root and held by descriptor, and what is done in one, by
// the last name alone, follows no link: either the call does not, or the file was just made.
type layerTree struct {
	root   int  // the layer's root directory
	owners bool // files belong to whom the layer says; else all to root

	last  heldDir // most entries are in the directory of the one before
	dirs  []dirTimes
	steps int // by walk, in all
}

// heldDir is a directory that path led to when nothing had been removed since.
type heldDir struct {
	path  string // "" if something was
	fd    int
	roots bool // its group is root, and so will be the group of what is made there
}

// dirTimes are set when nothing is made in the directory any more.
type dirTimes struct {
	path  string
	times [2]unix.Timespec
}

func newLayerTree(dir string, owners bool) (*layerTree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	// What the caller's home passes on to each new file is not the layer's.
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		if err := unix.Fremovexattr(fd, name); err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			unix.Close(fd)
			return nil, &os.PathError{Op: "remove " + name, Path: dir, Err: err}
		}
	}
	return &layerTree{root: fd, owners: owners, last: heldDir{fd: -1}}, nil
}

func (t *layerTree) close() {
	if t.last.fd >= 0 {
		unix.Close(t.last.fd)
	}
	unix.Close(t.root)
}

// make makes what e says. contents gives what is in a file.
func (t *layerTree) make(e layerEntry, contents func(write func([]byte) error) error) error {
	if e.path == "." {
		if e.Typeflag != tar.TypeDir {
			return errors.New("the root of the layer is not a directory")
		}
		return t.dressDir(t.root, e)
	}
	name := path.Base(e.path)
	if gone, ok := strings.CutPrefix(name, whiteoutPrefix); ok {
		return t.makeWhiteout(path.Dir(e.path), gone)
	}
	dir, err := t.open(path.Dir(e.path), true)
	if err != nil {
		return err
	}
	switch e.Typeflag {
	case tar.TypeDir:
		return t.makeDir(dir, name, e)
	case tar.TypeReg:
		return t.makeFile(dir, name, e, contents)
	case tar.TypeLink:
		return t.makeLink(dir, name, e)
	case tar.TypeSymlink:
		return t.makeNode(dir, name, e, func() error { return unix.Symlinkat(e.Linkname, dir.fd, name) })
	case tar.TypeFifo:
		return t.makeNode(dir, name, e, func() error { return unix.Mknodat(dir.fd, name, unix.S_IFIFO|mode(e), 0) })
	default: // a device, which nobody can make in a user namespace: only what it replaces goes
		return t.remove(dir, name)
	}
}

// makeDir makes a directory, or gives the one that is there what the entry says.
func (t *layerTree) makeDir(dir heldDir, name string, e layerEntry) error {
	mkdir := func() error { return unix.Mkdirat(dir.fd, name, mode(e)) }
	err := mkdir()
	var was uint32
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err := unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return os.NewSyscallError("stat", err)
		}
		if was = st.Mode & unix.S_IFMT; was == unix.S_IFDIR {
			err = nil
		} else {
			err = t.replace(dir, name, mkdir)
		}
	}
	if err != nil {
		return os.NewSyscallError("mkdir", err)
	}
	fd, err := openDirAt(dir.fd, name)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	if was == unix.S_IFCHR { // a whiteout of this very layer
		if err := setOpaque(fd); err != nil {
			return err
		}
	}
	return t.dressDir(fd, e)
}

// dressDir gives a directory all but its times, which come at the end.
func (t *layerTree) dressDir(fd int, e layerEntry) error {
	t.last.path = "" // it may be this one, and change its group
	if t.owners {
		if err := unix.Fchown(fd, e.Uid, e.Gid); err != nil {
			return os.NewSyscallError("chown", err)
		}
	}
	if err := unix.Fchmod(fd, mode(e)); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	t.dirs = append(t.dirs, dirTimes{e.path, times(e)})
	return setXattrs(fd, e)
}

func (t *layerTree) makeFile(dir heldDir, name string, e layerEntry, contents func(func([]byte) error) error) error {
	fd := -1
	err := t.replace(dir, name, func() (err error) {
		fd, err = unix.Openat(dir.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode(e)&0o777)
		return err
	})
	if err != nil {
		return os.NewSyscallError("create", err)
	}
	err = contents(func(b []byte) error { return writeAll(fd, b) })
	if err == nil {
		err = t.dressFile(dir, fd, e)
	}
	if cerr := unix.Close(fd); err == nil {
		err = os.NewSyscallError("close", cerr)
	}
	if err != nil {
		return err
	}
	return setTimes(dir.fd, name, times(e))
}

// dressFile gives a new file what it does not have already: it is root's, and its mode is
// what umask has left.
func (t *layerTree) dressFile(dir heldDir, fd int, e layerEntry) error {
	foreign := t.owners && (e.Uid != 0 || e.Gid != 0 || !dir.roots)
	if foreign {
		if err := unix.Fchown(fd, e.Uid, e.Gid); err != nil {
			return os.NewSyscallError("chown", err)
		}
	}
	if mode(e)&^0o755 != 0 { // after chown, which takes setuid away
		if err := unix.Fchmod(fd, mode(e)); err != nil {
			return os.NewSyscallError("chmod", err)
		}
	}
	return setXattrs(fd, e)
}

// makeLink makes a second name for a file of the layer, which has its attributes already. Where
// this entry says other ones, the last word counts, as with docker and podman; a change for
// nothing would take capabilities away.
func (t *layerTree) makeLink(dir heldDir, name string, e layerEntry) error {
	to := rooted(e.Linkname)
	from, err := t.reach(path.Dir(to), false)
	if err != nil {
		return fmt.Errorf("link to %s: %w", quoteShort(to), err)
	}
	defer unix.Close(from)
	err = t.replace(dir, name, func() error { return unix.Linkat(from, path.Base(to), dir.fd, name, 0) })
	if err != nil {
		return fmt.Errorf("link to %s: %w", quoteShort(to), err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("stat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	changed := t.owners && (int(st.Uid) != e.Uid || int(st.Gid) != e.Gid)
	if changed {
		if err := unix.Fchownat(dir.fd, name, e.Uid, e.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return os.NewSyscallError("chown", err)
		}
	}
	if changed || st.Mode&0o7777 != mode(e) {
		return os.NewSyscallError("chmod", unix.Fchmodat(dir.fd, name, mode(e), 0)) // no symlink: see above
	}
	return nil
}

// makeNode makes what mknod makes, a symlink or a FIFO.
func (t *layerTree) makeNode(dir heldDir, name string, e layerEntry, mknod func() error) error {
	if err := t.replace(dir, name, mknod); err != nil {
		return os.NewSyscallError("make", err)
	}
	if t.owners {
		if err := unix.Fchownat(dir.fd, name, e.Uid, e.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return os.NewSyscallError("chown", err)
		}
	}
	if e.Typeflag == tar.TypeFifo {
		if err := unix.Fchmodat(dir.fd, name, mode(e), 0); err != nil {
			return os.NewSyscallError("chmod", err)
		}
	}
	return setTimes(dir.fd, name, times(e))
}

// makeWhiteout takes a name of the layers below away, by a device 0:0 in its place. What
// this layer itself has there stays. No symlink may be on the way: the whiteout would take
// away what another name of the layer promises.
func (t *layerTree) makeWhiteout(dir, gone string) error {
	opaque := gone == ".wh..opq"
	if strings.HasPrefix(gone, whiteoutPrefix) && !opaque {
		return nil // aufs's notes to itself
	}
	if gone == "" || gone == "." || gone == ".." {
		return errors.New("not a name for a whiteout")
	}
	fd, err := t.lookup(dir)
	if err == unix.ENOENT { // there is no symlink before what is not there
		fd, err = t.walk(dir, true)
	}
	switch {
	case err == unix.ELOOP:
		return errors.New("a whiteout through a symlink")
	case err == unix.ENOTDIR: // rm -r a: some tools write a/.wh.b, too
		return nil
	case err != nil:
		return os.NewSyscallError("open directory", err)
	}
	defer unix.Close(fd)
	if opaque {
		return setOpaque(fd)
	}
	err = unix.Mknodat(fd, gone, unix.S_IFCHR, 0)
	if err != unix.EEXIST {
		return os.NewSyscallError("make whiteout", err)
	}
	has, err := openDirAt(fd, gone)
	if err != nil {
		return nil // a file hides what is below by itself
	}
	defer unix.Close(has)
	return setOpaque(has)
}

// replace calls make, which makes name in dir; once more if something is in the way.
func (t *layerTree) replace(dir heldDir, name string, make func() error) error {
	err := make()
	if err != unix.EEXIST {
		return err
	}
	if err := t.remove(dir, name); err != nil {
		return err
	}
	return make()
}

// remove removes what name is in dir, if it is there, and all that is in it.
func (t *layerTree) remove(dir heldDir, name string) error {
	t.last.path = ""
	err := unix.Unlinkat(dir.fd, name, 0)
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR:
		// By the descriptor, and from there it follows no link.
		return os.RemoveAll(fmt.Sprintf("/proc/self/fd/%d/%s", dir.fd, name))
	}
	return os.NewSyscallError("remove", err)
}

// finish sets the times of the directories that are there still.
func (t *layerTree) finish() error {
	for _, d := range t.dirs {
		if err := t.setDirTimes(d); err != nil {
			return fmt.Errorf("%s: %w", quoteShort(d.path), err)
		}
	}
	return nil
}

func (t *layerTree) setDirTimes(d dirTimes) error {
	if d.path == "." {
		return setTimes(t.root, ".", d.times)
	}
	dir, err := t.open(path.Dir(d.path), false)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT) {
		return nil // replaced by something else
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	name := path.Base(d.path)
	if unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	return setTimes(dir.fd, name, d.times)
}
