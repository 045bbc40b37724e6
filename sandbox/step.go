package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// apply does one step. It runs in sbx-init.
func (b *builder) apply(i int, s *Step) error {
	switch s.Op {
	case opOverlay:
		return b.overlay(i, s)
	case opBind:
		return b.bind(i, s)
	case opVolume:
		return b.volume(i, s)
	case opNode:
		return b.node(i, s)
	case opTmpfs:
		return b.tmpfs(s)
	case opSysfs, opMqueue, opCgroup:
		return b.kernelFS(s)
	case opProc:
		return nil // the command's own process has mounted it; see start.go
	case opDevpts:
		return b.devpts(s)
	case opSymlink:
		return b.symlink(s)
	case opDir:
		return b.userDirectory(s.Dst, uint32(s.Mode))
	case opFile:
		text := []byte(s.Text)
		if s.Secret != nil {
			text = s.Secret
		}
		return b.file(s, text)
	case opHosts:
		text, err := b.tree.read(s.Dst)
		if err != nil {
			return err
		}
		return b.file(s, append([]byte(s.Text), text...))
	case opPasswd, opGroup:
		return b.userFile(s)
	case opMask:
		return b.mask(s)
	case opReadOnly:
		return b.readOnly(s)
	}
	return fmt.Errorf("bug in sbx: there is no operation %q", s.Op)
}

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
	mount, err := b.mountOverlay(s, b.src.dirs[i][0], b.src.dirs[i])
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
