package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A process in a sandbox can reach the file that sbx was executed from, through
// /proc/PID/exe of a process of sbx, and that file may well belong to the caller, who
// is root in there (CVE-2019-5736). So a stage is executed from a mount of that one
// file which is read-only and belongs to no directory tree.

// sealByMount makes the program open sbx on such a mount. Linux 5.12.
func sealByMount(p *Program) (*Result, io.Closer, error) {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, nil, err
	}
	if strings.HasSuffix(path, " (deleted)") {
		return sealByCopy(p)
	}
	readOnly := Bytes(&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	// By path: /proc/self/exe leads to a mount of the namespace that was left behind.
	exe := p.add(sealing, "open_tree "+path, unix.SYS_OPEN_TREE, []any{unix.AT_FDCWD, path, uint32(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)})
	p.add(sealing, "mount_setattr "+path, unix.SYS_MOUNT_SETATTR, []any{exe, "", unix.AT_EMPTY_PATH, readOnly, len(readOnly)})
	return exe, io.NopCloser(nil), nil
}

// sealByCopy makes the program open a sealed copy of sbx in memory, for where mounts
// cannot be cloned or the file is gone. The copy costs some milliseconds, unless sbx runs
// from one already.
func sealByCopy(p *Program) (*Result, io.Closer, error) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, nil, err
	}
	if have, err := unix.FcntlInt(self.Fd(), unix.F_GET_SEALS, 0); err == nil && have&seals == seals {
		return p.Do("dup", unix.SYS_FCNTL, int(self.Fd()), unix.F_DUPFD_CLOEXEC, 0), self, nil
	}
	defer self.Close()
	exe, err := sealed("sbx", self)
	if err != nil {
		return nil, nil, err
	}
	return p.Do("dup", unix.SYS_FCNTL, int(exe.Fd()), unix.F_DUPFD_CLOEXEC, 0), exe, nil
}

const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// sealed returns a file in memory that nobody can change.
func sealed(name string, content io.Reader) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3 has no MFD_EXEC
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, content); err != nil {
		f.Close()
		return nil, fmt.Errorf("copy %s into memory: %w", name, err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the copy of %s: %w", name, err)
	}
	return f, nil
}
