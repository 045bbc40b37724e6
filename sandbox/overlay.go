package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountOverlay mounts dirs, topmost first, with the step's upper and work directories
// behind them if it has some on disk, and returns the mount. Its root looks like top.
//
// The directories are named to the kernel by their descriptors' numbers, from a working
// directory of /proc/self/fd: so no path is resolved twice, none has to be escaped, 500
// layers fit in the page that mount(2) takes, and the sandbox's mountinfo shows nothing
// of the host. Overlay in a user namespace: Linux 5.11.
//
// Where the kernel refuses that, or the plan says so, the same directories are served over FUSE.
func (in *builder) mountOverlay(s *Step, top *os.File, dirs []*os.File) (*os.File, error) {
	b, c := in.base, in.copier()
	var upper, work *os.File
	switch s.Upper {
	case "":
	case inMemory:
		var err error
		if dirs, err = b.addUpper(dirs); err != nil {
			return nil, err
		}
		fallthrough
	default:
		upper, work = dirs[len(dirs)-2], dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-2]
	}
	if upper != nil {
		// What / itself looks like is the upper directory's word.
		if err := c.sameOwner(top, upper); err != nil {
			return nil, err
		}
	}
	if s.FUSE != "" {
		return in.overFUSE(s, dirs, upper, work)
	}
	if upper == nil && len(dirs) == 1 {
		// overlayfs wants two lower directories or an upper one.
		empty, err := b.dir("empty")
		if err != nil {
			return nil, err
		}
		defer empty.Close()
		dirs = append([]*os.File{empty}, dirs...)
	}
	var options strings.Builder
	for i, dir := range dirs {
		options.WriteString([]string{"lowerdir=", ":"}[min(i, 1)] + strconv.Itoa(int(dir.Fd())))
	}
	if upper != nil {
		fmt.Fprintf(&options, ",upperdir=%d,workdir=%d", upper.Fd(), work.Fd())
		if !s.Keep {
			options.WriteString(",volatile") // nobody will miss what a crash loses; no sync at the end
		}
	}
	options.WriteString(",userxattr")
	if options.Len() >= os.Getpagesize() {
		return nil, fmt.Errorf("mount overlay: %d layers are more than mount(2) can be told", len(dirs))
	}
	name := b.name("overlay")
	at, err := b.dir(name)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	if err := os.Chdir("/proc/self/fd"); err != nil {
		return nil, err
	}
	if err := unix.Mount("overlay", strconv.Itoa(int(at.Fd())), "overlay", unix.MS_NODEV, options.String()); err != nil {
		// Where something is mounted in a layer, the kernel's refusal is for good.
		if in.p.Overlay == "" && mountedBelow(s.Layers[0]) == "" && fuseRefused() == nil {
			in.notes = append(in.notes, "overlay over FUSE: the kernel refuses its own: "+err.Error())
			return in.overFUSE(s, dirs, upper, work)
		}
		return nil, overlayError(s, err)
	}
	// The mount was put there only because mount(2) knows no other way.
	mount, err := unix.Openat(int(b.tmpfs.Fd()), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(mount), name), nil
}

// sameOwner gives the directory dir, held by an O_PATH descriptor, to the owner of from,
// with its mode.
func (c copier) sameOwner(from, dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	if err := unix.Chmod(fdPath(dir), st.Mode&0o7777); err != nil {
		return &fs.PathError{Op: "chmod", Path: dir.Name(), Err: err}
	}
	o := c.owner(&st)
	const nobody = 65534 // also who stands for an owner that is not mapped, as of a --rootfs of the host's root
	if st.Uid == nobody || st.Gid == nobody {
		o = c.root
	}
	return o.chown(dir)
}

func overlayError(s *Step, err error) error {
	failed := &Error{Text: "mount overlay of " + strings.Join(s.Layers[:min(2, len(s.Layers))], ", "), Err: err}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENODEV):
		failed.Fix = "the kernel must allow overlayfs in user namespaces (Linux 5.11 and later, module overlay)"
	case errors.Is(err, unix.EINVAL) && mountedBelow(s.Layers[0]) != "":
		failed.Fix = mountedBelow(s.Layers[0]) + " is mounted in it, and without root nobody sees what lies under a mount: name a directory without, or leave O out"
	case errors.Is(err, unix.EINVAL):
		failed.Fix = "upper and work directory must lie on one file system that has extended attributes; see the kernel's log"
	}
	return failed
}

// base is a tmpfs in the mount namespace that is left behind when the root is changed:
// what is bound from it into the new root stays, and nothing else of it.
type base struct {
	tmpfs *os.File
	names int
}

// name returns one that is not in use, beginning with what it is for.
func (b *base) name(what string) string {
	b.names++
	return what + strconv.Itoa(b.names)
}

func newBase() (*base, error) {
	tmpfs, err := newMount("tmpfs", unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID, "mode=0755")
	if err != nil {
		return nil, err
	}
	for _, at := range []string{"/tmp", "/mnt", "/var", "/sys"} {
		target, err := os.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		defer target.Close()
		return &base{tmpfs: tmpfs}, attach(tmpfs, target)
	}
	return nil, errors.New("mount tmpfs: the host has neither /tmp nor /mnt, /var, /sys")
}

// dir returns a new or the existing directory of that name.
func (b *base) dir(name string) (*os.File, error) {
	if err := unix.Mkdirat(int(b.tmpfs.Fd()), name, 0o755); err != nil && err != unix.EEXIST {
		return nil, &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	fd, err := unix.Openat(int(b.tmpfs.Fd()), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// addUpper appends an upper and a work directory in memory.
func (b *base) addUpper(dirs []*os.File) ([]*os.File, error) {
	for _, name := range []string{"upper", "work"} {
		dir, err := b.dir(b.name(name))
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// file makes a file with that text, to be bound where it is wanted.
func (b *base) file(what string, text []byte, mode uint32, o owner) (*os.File, error) {
	name := b.name(what)
	fd, err := unix.Openat(int(b.tmpfs.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(text); err != nil {
		f.Close()
		return nil, err
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return nil, &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	if err := o.chown(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
