package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// What each operation does. All of this runs in sbx-init.

// late are the steps that need the command's process, or what those have mounted.
func (s *Step) late() bool {
	switch s.Op {
	case opProc, opSysfs, opCgroup, opMqueue, opMask, opReadOnly:
		return true
	}
	return s.Op == opBind && (s.Dst == "/sys" || strings.HasPrefix(s.Dst, "/proc/"))
}

// attributes returns the step's flags as mount_setattr(2) takes them.
func (s *Step) attributes() uint64 {
	var a uint64
	for _, f := range []struct {
		on   bool
		attr uint64
	}{
		{s.ReadOnly, unix.MOUNT_ATTR_RDONLY}, {s.NoSuid, unix.MOUNT_ATTR_NOSUID},
		{s.NoDev, unix.MOUNT_ATTR_NODEV}, {s.NoExec, unix.MOUNT_ATTR_NOEXEC},
	} {
		if f.on {
			a |= f.attr
		}
	}
	return a
}

func (b *builder) overlay(i int, s *Step) error {
	mount, err := mountOverlay(b.base, s, b.copier(), b.src.dirs[i][0], b.src.dirs[i])
	if err != nil {
		return err
	}
	defer mount.Close()
	if s.Src != "" { // a directory of the image only
		sub, err := (tree{dir: mount}).openFlags(s.Src, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer sub.Close()
		if mount, err = cloneOf(sub); err != nil {
			return err
		}
		defer mount.Close()
	}
	if err := setAttributes(mount, s.attributes(), unix.MS_PRIVATE, true); err != nil {
		return err
	}
	target, err := b.userTarget(s, true)
	if err != nil {
		return err
	}
	defer target.Close()
	return attach(mount, target)
}

func (b *builder) bind(i int, s *Step) error {
	mount := b.src.mounts[i]
	if mount == nil {
		return nil // Optional, and not there
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(mount.Fd()), &st); err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	var target *os.File
	var err error
	if s.Dst == "/sys" {
		target, err = b.tree.kernelDirectory(s.Dst)
	} else {
		target, err = b.userTarget(s, isDir)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	return b.attachWith(s, mount, target)
}

// attachWith attaches a mount of the host's, as the flags want it.
func (b *builder) attachWith(s *Step, mount, target *os.File) error {
	if s.Chown {
		user, err := b.user()
		if err != nil {
			return err
		}
		if err := chownTree(mount, user); err != nil {
			return err
		}
	}
	prop, propRecursive := uint64(unix.MS_PRIVATE), true
	if s.Propagation != "" {
		var err error
		if prop, propRecursive, err = propagation(s.Propagation); err != nil {
			return err
		}
	}
	if err := setAttributes(mount, 0, prop, propRecursive); err != nil {
		return err
	}
	attr := s.attributes()
	if s.Shallow && s.ReadOnly {
		if err := setAttributes(mount, unix.MOUNT_ATTR_RDONLY, 0, false); err != nil {
			return err
		}
		attr &^= unix.MOUNT_ATTR_RDONLY
	}
	if err := setAttributes(mount, attr, 0, true); err != nil {
		return err
	}
	return attach(mount, target)
}

// userTarget finds or makes the place of something that the user or the image mounts.
// No link may have led to where the user may not mount, either.
func (b *builder) userTarget(s *Step, isDir bool) (*os.File, error) {
	var target *os.File
	var err error
	if isDir {
		target, err = b.tree.directory(s.Dst, 0o755)
	} else {
		target, err = b.tree.file(s.Dst)
	}
	if err != nil {
		return nil, b.noPlace(s.Dst, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(target.Fd()), &st); err != nil {
		target.Close()
		return nil, err
	}
	if !isDir && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		target.Close()
		return nil, b.noPlace(s.Dst, unix.EISDIR)
	}
	if err := b.checkFound(target); err != nil {
		target.Close()
		return nil, err
	}
	return target, nil
}

// checkFound is checkTarget for what was found. The kernel's own file systems are mounted
// last, so before that only its name tells that it will lie behind them.
func (b *builder) checkFound(f *os.File) error {
	at, err := b.tree.where(f)
	if err != nil {
		return err
	}
	if err := checkTarget(at); err != nil {
		return err
	}
	if kernelFile(f) && !slices.Contains(lxcfs(), at) {
		return fmt.Errorf("%s leads to a file of the kernel's", f.Name())
	}
	return nil
}

// userDirectory makes a directory for the command's user where the image has none.
func (b *builder) userDirectory(dst string, mode uint32) error {
	user, err := b.user()
	if err != nil {
		return err
	}
	dir, err := b.tree.directoryOf(user, dst, mode)
	if err != nil {
		return err
	}
	return dir.Close()
}

// noPlace says why nothing can be mounted at dst.
func (b *builder) noPlace(dst string, err error) error {
	failed := &Error{Text: "make a place for it", Err: err}
	switch {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		failed.Fix = "a directory goes over a directory of the root, and a file over a file"
	case !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EACCES):
		return err
	case b.p.Steps[0].Op == opOverlay:
		failed.Fix = "the root does not have " + dst + ", and the directory it belongs in is nobody's in the sandbox: make it there"
	default:
		failed.Fix = "the root does not have " + dst + " and cannot be written: make it there, or use --rootfs DIR:O"
	}
	return failed
}

func (b *builder) node(i int, s *Step) error {
	mount := b.src.mounts[i]
	var st unix.Stat_t
	if err := unix.Fstat(int(mount.Fd()), &st); err != nil {
		return err
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return fmt.Errorf("%s is not a device", s.Src)
	}
	target, err := b.userTarget(s, false)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := setAttributes(mount, s.attributes(), unix.MS_PRIVATE, false); err != nil {
		return err
	}
	return attach(mount, target)
}

func (b *builder) tmpfs(s *Step) error {
	o, err := b.ownerOf(s)
	if err != nil {
		return err
	}
	mount, err := newMount("tmpfs", s.attributes()&^unix.MOUNT_ATTR_RDONLY, tmpfsOptions(s, o)...)
	if err != nil {
		return err
	}
	defer mount.Close()
	image, missing := b.tree.open(s.Dst)
	if missing == nil {
		image.Close()
	}
	var target *os.File
	if s.Dst == "/dev" {
		if target, err = b.tree.kernelDirectory(s.Dst); err != nil {
			err = b.noPlace(s.Dst, err)
		}
	} else {
		target, err = b.userTarget(s, true)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	if s.CopyUp && missing == nil {
		if err := b.copier().copyTree(target, mount); err != nil {
			return fmt.Errorf("copy the image's files: %w", err)
		}
		if s.Chown { // not what was copied, as with podman
			if err := o.chown(mount); err != nil {
				return err
			}
		}
	}
	if s.ReadOnly {
		if err := setAttributes(mount, unix.MOUNT_ATTR_RDONLY, 0, false); err != nil {
			return err
		}
	}
	return attach(mount, target)
}

// kernelFS mounts what belongs to the namespaces that this thread is in.
func (b *builder) kernelFS(s *Step) error {
	var mount *os.File
	var err error
	switch s.Op {
	case opSysfs:
		mount, err = newMount("sysfs", s.attributes())
	case opMqueue:
		mount, err = newMount("mqueue", s.attributes())
	case opCgroup:
		mount, err = newMount("cgroup2", s.attributes())
	}
	if err != nil {
		return b.withoutKernelFS(s, err)
	}
	defer mount.Close()
	target, err := b.tree.kernelDirectory(s.Dst)
	if err != nil {
		return err
	}
	defer target.Close()
	return attach(mount, target)
}

// withoutKernelFS goes on where a sandbox around this one has covered parts of its sysfs or
// cgroupfs: the kernel then gives nobody inside a new one (mount_too_revealing). What a
// program would look for there, it will not find.
func (b *builder) withoutKernelFS(s *Step, err error) error {
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	target, openErr := b.tree.directory(s.Dst, 0o755)
	if openErr != nil {
		return openErr
	}
	target.Close()
	b.warnings = append(b.warnings, s.Dst+" is empty: the one around the sandbox is masked, so the kernel gives no new one")
	return nil
}

func (b *builder) devpts(s *Step) error {
	options, err := devptsOptions(s, b.ids())
	if err != nil {
		return err
	}
	mount, err := newMount("devpts", s.attributes(), options...)
	if err != nil {
		return err
	}
	defer mount.Close()
	target, err := b.tree.directory(s.Dst, 0o755)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := attach(mount, target); err != nil {
		return err
	}
	if b.p.Command.Terminal && s.Dst == "/dev/pts" {
		return b.console(mount)
	}
	return nil
}

// console opens the command's terminal, gives it to the command's user, and binds it to
// /dev/console, where programs that think themselves the first of a system look for one.
func (b *builder) console(devpts *os.File) error {
	user, err := b.user()
	if err != nil {
		return err
	}
	if b.terminal, err = b.openTerminal(devpts); err != nil {
		return err
	}
	if err := unix.Fchown(int(b.terminal.slave.Fd()), int(user.uid), -1); err != nil {
		return fmt.Errorf("give the terminal to the command's user: %w", err)
	}
	mount, err := cloneOf(b.terminal.slave)
	if err != nil {
		return err
	}
	defer mount.Close()
	target, err := b.tree.file("/dev/console")
	if err != nil {
		return err
	}
	defer target.Close()
	return attach(mount, target)
}

func (b *builder) symlink(s *Step) error {
	parent, err := b.tree.directory(path.Dir(s.Dst), 0o755)
	if err != nil {
		return err
	}
	defer parent.Close()
	err = unix.Symlinkat(s.Src, int(parent.Fd()), path.Base(s.Dst))
	if err == unix.EEXIST {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "symlink", Path: s.Dst, Err: err}
	}
	return b.root().give(parent, path.Base(s.Dst))
}

// file lays a file in memory over the one in the root.
func (b *builder) file(s *Step, text []byte) error {
	o, err := b.ownerOf(s)
	if err != nil {
		return err
	}
	f, err := b.base.file(path.Base(s.Dst), text, uint32(s.Mode), o)
	if err != nil {
		return err
	}
	defer f.Close()
	mount, err := cloneOf(f)
	if err != nil {
		return err
	}
	defer mount.Close()
	if err := setAttributes(mount, s.attributes(), 0, false); err != nil {
		return err
	}
	target, err := b.userTarget(s, false)
	if err != nil && s.Optional {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	return attach(mount, target)
}

// userFile adds the command's user to the image's passwd or group.
func (b *builder) userFile(s *Step) error {
	who, err := b.identity()
	if err != nil {
		return err
	}
	var text []byte
	if s.Op == opPasswd {
		text = who.withUser(s.Text, s.Options, b.p.Command.Workdir)
	} else {
		text = who.withGroup(s.Options)
	}
	if text == nil {
		return nil
	}
	with := *s
	with.Mode = 0o644
	if err := b.file(&with, text); !errors.Is(err, unix.EISDIR) {
		return err
	}
	return nil // it stays the image's directory: a user that is a number needs no name
}

// mask hides what is at Dst: a file behind /dev/null, a directory behind an empty one
// that nobody can write. The source is the null device that step /dev/null has bound,
// looked at by its descriptor: never a name in the image (CVE-2025-31133).
func (b *builder) mask(s *Step) error {
	if strings.Contains(s.Dst, "*") {
		return b.maskAll(s)
	}
	target, err := b.tree.open(s.Dst)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(target.Fd()), &st); err != nil {
		return err
	}
	blank, source := &b.blankFile, b.nullDevice
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		blank, source = &b.blankDir, emptyDir
	}
	// The first one is made, and the others are copies of its mount.
	var mount *os.File
	if *blank == nil {
		mount, err = source()
	} else {
		mount, err = cloneOf(*blank)
	}
	if err != nil {
		return err
	}
	if err := attach(mount, target); err != nil {
		mount.Close()
		return err
	}
	if *blank == nil {
		*blank = mount
		return nil
	}
	return mount.Close()
}

// maskAll masks whatever the pattern Dst matches; one part of it is a pattern.
func (b *builder) maskAll(s *Step) error {
	before, after, _ := strings.Cut(s.Dst, "*")
	dir, prefix := path.Split(before)
	suffix, rest, _ := strings.Cut(after, "/")
	held, err := b.tree.openFlags(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer held.Close()
	names, err := held.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) || !strings.HasSuffix(name, suffix) {
			continue
		}
		one := *s
		one.Dst = path.Join(dir, name, rest)
		if err := b.mask(&one); err != nil {
			return err
		}
	}
	return nil
}

func emptyDir() (*os.File, error) {
	return newMount("tmpfs", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, "source=tmpfs", "mode=0555", "nr_inodes=2")
}

func (b *builder) nullDevice() (*os.File, error) {
	null, err := b.tree.open("/dev/null")
	if err != nil {
		return nil, err
	}
	defer null.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(null.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		return nil, errors.New("/dev/null is not the null device")
	}
	mount, err := cloneOf(null)
	if err != nil {
		return nil, err
	}
	return mount, setAttributes(mount, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NOSUID, unix.MS_PRIVATE, false)
}

// readOnly makes what is at Dst, and unless Shallow the mounts below it, read-only. The
// root is a mount already; anything else becomes one.
func (b *builder) readOnly(s *Step) error {
	target, err := b.tree.open(s.Dst)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	if s.Dst == "/" {
		return setAttributes(target, unix.MOUNT_ATTR_RDONLY, 0, !s.Shallow)
	}
	fd, err := unix.OpenTree(int(target.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return &fs.PathError{Op: "open_tree", Path: s.Dst, Err: err}
	}
	mount := os.NewFile(uintptr(fd), s.Dst)
	defer mount.Close()
	if err := setAttributes(mount, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, unix.MS_PRIVATE, true); err != nil {
		return err
	}
	return attach(mount, target)
}
