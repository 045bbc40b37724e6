//go:build !hot

package image

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const paxXattr = "SCHILY.xattr."

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
