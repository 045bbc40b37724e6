package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

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
