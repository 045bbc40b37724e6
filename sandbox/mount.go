package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// attach puts a mount that is in no tree yet on target (move_mount(2), Linux 5.2).
func attach(mount, target *os.File) error {
	err := unix.MoveMount(int(mount.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return &fs.PathError{Op: "move_mount", Path: target.Name(), Err: err}
	}
	return nil
}

// setAttributes sets flags on a mount, and with recursive on those below it: a bind that
// is read-only only at its top is not read-only (mount_setattr(2), Linux 5.12).
func setAttributes(mount *os.File, attr uint64, propagation uint64, recursive bool) error {
	if attr == 0 && propagation == 0 {
		return nil
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(int(mount.Fd()), "", flags, &unix.MountAttr{Attr_set: attr, Propagation: propagation}); err != nil {
		return &fs.PathError{Op: "mount_setattr", Path: mount.Name(), Err: err}
	}
	return nil
}

// newMount mounts a file system of the kernel's in no tree (fsopen(2), Linux 5.2). An
// option is key=value or a word.
func newMount(fsType string, attr uint64, options ...string) (*os.File, error) {
	fd, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, &fs.PathError{Op: "fsopen", Path: fsType, Err: err}
	}
	defer unix.Close(fd)
	for _, option := range options {
		key, value, hasValue := strings.Cut(option, "=")
		if hasValue {
			err = unix.FsconfigSetString(fd, key, value)
		} else {
			err = unix.FsconfigSetFlag(fd, key)
		}
		if err != nil {
			return nil, &fs.PathError{Op: "fsconfig " + option, Path: fsType, Err: err}
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, &fs.PathError{Op: "create", Path: fsType, Err: err}
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, int(attr))
	if err != nil {
		return nil, &fs.PathError{Op: "fsmount", Path: fsType, Err: err}
	}
	return os.NewFile(uintptr(mount), fsType), nil
}

func tmpfsOptions(s *Step, o owner) []string {
	options := []string{"source=tmpfs", "mode=" + strconv.FormatUint(uint64(s.Mode), 8), number("uid", o.uid), number("gid", o.gid)}
	if s.Size > 0 {
		options = append(options, "size="+strconv.FormatInt(s.Size, 10))
	}
	if s.Inodes > 0 {
		options = append(options, "nr_inodes="+strconv.FormatInt(s.Inodes, 10))
	}
	return options
}

func number(key string, value uint32) string {
	return key + "=" + strconv.FormatUint(uint64(value), 10)
}

// devptsOptions names ids as this process's namespace does; ids are the command's.
func devptsOptions(s *Step, ids userns.Map) ([]string, error) {
	options := []string{"source=devpts", "newinstance", "ptmxmode=0666", "mode=" + strconv.FormatUint(uint64(s.Mode), 8)}
	gid, tty := s.GID, uint32(5) // on every distribution
	if _, ok := userns.Outside(ids.GIDs, tty); ok && gid == nil {
		gid = &tty
	}
	for _, o := range []struct {
		key    string
		ids    []userns.ID
		inside *uint32
	}{{"uid", ids.UIDs, s.UID}, {"gid", ids.GIDs, gid}} {
		if o.inside == nil {
			continue
		}
		outside, ok := userns.Outside(o.ids, *o.inside)
		if !ok {
			return nil, Errorf("%s=%d: it has no id in the sandbox", o.key, *o.inside)
		}
		options = append(options, number(o.key, outside))
	}
	if s.Max > 0 {
		options = append(options, "max="+strconv.Itoa(s.Max))
	}
	return options, nil
}

// propagation is what mount_setattr(2) takes for the word, and whether it holds for
// the mounts below too.
func propagation(word string) (flag uint64, recursive bool, err error) {
	base, recursive := strings.CutPrefix(word, "r")
	switch base {
	case "private":
		return unix.MS_PRIVATE, recursive, nil
	case "slave":
		return unix.MS_SLAVE, recursive, nil
	case "shared":
		return unix.MS_SHARED, recursive, nil
	}
	return 0, false, fmt.Errorf("propagation %q: unknown", word)
}
