//go:build !hot

package image

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	paxXattr       = "SCHILY.xattr."
)

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

// maxSteps bounds what the symlinks of a layer may cost to follow.
const maxSteps = 2_000_000

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

// open finds a directory; make makes it, for it has no entry where a layer below has it. The
// descriptor is good until the next call.
func (t *layerTree) open(dir string, make bool) (heldDir, error) {
	if dir == t.last.path {
		return t.last, nil
	}
	fd, err := t.reach(dir, make)
	if err != nil {
		return heldDir{}, err
	}
	if t.last.fd >= 0 {
		unix.Close(t.last.fd)
	}
	t.last = heldDir{path: dir, fd: fd}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return heldDir{}, os.NewSyscallError("stat", err)
	}
	t.last.roots = st.Gid == 0
	return t.last, nil
}

// reach opens a directory, through symlinks if need be; and makes it, if that is wanted.
func (t *layerTree) reach(dir string, make bool) (int, error) {
	fd, err := t.lookup(dir)
	if err == unix.ELOOP || make && err == unix.ENOENT {
		fd, err = t.walk(dir, make)
	}
	return fd, os.NewSyscallError("open directory", err)
}

// lookup opens a directory that no symlink is on the way to. Where there is one, it returns ELOOP.
func (t *layerTree) lookup(dir string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(t.root, dir, &how) // Linux 5.6
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// maxSymlinks is how many symlinks may be on one way, as many as the kernel follows.
const maxSymlinks = 40

// walk is lookup by hand, part by part, where symlinks are on the way, even to what is not
// there yet: make makes it. It goes no deeper than a path without symlinks may, for whoever
// removes the layer holds a descriptor for each directory.
func (t *layerTree) walk(dir string, make bool) (_ int, err error) {
	at, err := openDirAt(t.root, ".")
	defer func() {
		if err != nil && at >= 0 {
			unix.Close(at)
		}
	}()
	depth, links := 0, 0
	for parts := strings.Split(dir, "/"); len(parts) > 0 && err == nil; {
		part := parts[0]
		parts = parts[1:]
		if t.steps++; t.steps > maxSteps {
			return at, limitf("more than %d steps through symlinks", maxSteps)
		}
		next := -1
		switch {
		case part == "" || part == ".", part == ".." && depth == 0:
			continue
		case part == "..":
			next, err = openDirAt(at, part)
			depth--
		default:
			next, err = openDirAt(at, part)
			if err == unix.ENOENT && make {
				next, err = t.makeParent(at, part)
			}
			depth++
		}
		if err == unix.ENOTDIR || err == unix.ELOOP { // openat(2): either, for a symlink
			to, linkErr := readLinkAt(at, part)
			if linkErr != nil {
				return at, unix.ENOTDIR
			}
			if links++; links > maxSymlinks {
				return at, unix.ELOOP
			}
			parts, err = append(strings.Split(to, "/"), parts...), nil
			if depth--; !path.IsAbs(to) {
				continue
			}
			next, err = openDirAt(t.root, ".")
			depth = 0
		}
		if err == nil {
			unix.Close(at)
			at = next
		}
		if depth > maxPathDepth {
			return at, limitf("more than %d directories deep", maxPathDepth)
		}
	}
	return at, err
}

// makeParent makes a directory that the layer has no entry for.
func (t *layerTree) makeParent(at int, name string) (int, error) {
	if err := unix.Mkdirat(at, name, 0o755); err != nil {
		return -1, err
	}
	if t.owners {
		// The group is that of at, if at is setgid. No symlink: it was made just now.
		if err := unix.Fchownat(at, name, 0, 0, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return -1, err
		}
	}
	return openDirAt(at, name)
}

func openDirAt(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func readLinkAt(at int, name string) (string, error) {
	target := make([]byte, maxPath)
	n, err := unix.Readlinkat(at, name, target)
	return string(target[:max(n, 0)]), err
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

// rooted is a path as the root sees it: clean, "." for the root.
func rooted(p string) string { return cmp.Or(path.Clean("/" + p)[1:], ".") }

func mode(e layerEntry) uint32 { return uint32(e.Mode) & 0o7777 }

// times are those of access and modification.
func times(e layerEntry) [2]unix.Timespec {
	access := e.AccessTime
	if access.Before(e.ModTime) { // as it is where there is none
		access = e.ModTime
	}
	return [2]unix.Timespec{timespec(access), timespec(e.ModTime)}
}

func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

func setTimes(dir int, name string, times [2]unix.Timespec) error {
	return os.NewSyscallError("set times", unix.UtimesNanoAt(dir, name, times[:], unix.AT_SYMLINK_NOFOLLOW))
}

// setXattrs gives a file or directory the extended attributes that a layer may set and the
// file system can hold. Links and FIFOs have none that a user namespace could set.
func setXattrs(fd int, e layerEntry) error {
	for key, value := range e.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || forbiddenXattr(name) {
			continue
		}
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err != nil && err != unix.ENOTSUP && err != unix.EPERM {
			return os.NewSyscallError("set attribute "+quoteShort(name), err)
		}
	}
	return nil
}

// forbiddenXattr reports whether an attribute would change what the kernel's overlay,
// fuse-overlayfs or a security module makes of the file.
func forbiddenXattr(name string) bool {
	for _, prefix := range []string{"user.overlay.", "trusted.", "user.fuseoverlayfs.", "user.containers.", "system."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.HasPrefix(name, "security.") && name != "security.capability"
}

// setOpaque hides what the layers below have in a directory.
func setOpaque(fd int) error {
	return os.NewSyscallError("mark as opaque", unix.Fsetxattr(fd, "user.overlay.opaque", []byte("y"), 0))
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("write", err)
		}
		b = b[max(n, 0):]
	}
	return nil
}
