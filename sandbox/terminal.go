package sandbox

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// terminal is the command's own: its master goes up to the parent, which copies.
type terminal struct{ master, slave *os.File }

// openTerminal opens a terminal of the sandbox's own devpts. The slave comes from the
// master, never by a name that an image could have made (CVE-2025-52565).
func (b *builder) openTerminal(devpts *os.File) (*terminal, error) {
	fd, err := unix.Openat(int(devpts.Fd()), "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: "/dev/pts/ptmx", Err: err}
	}
	t := &terminal{master: os.NewFile(uintptr(fd), "ptmx")}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, &fs.PathError{Op: "unlock", Path: "/dev/pts/ptmx", Err: err}
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, &fs.PathError{Op: "TIOCGPTPEER", Path: "/dev/pts/ptmx", Err: errno}
	}
	t.slave = os.NewFile(slave, "terminal")
	if b.winsize != nil {
		return t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, b.winsize)
	}
	return t, nil
}

// takeOver makes the terminal the process's own, on descriptors 0 to 2. The process leads
// a new session.
func (t *terminal) takeOver(p *userns.Program) {
	for fd := range 3 {
		p.Do("dup3", unix.SYS_DUP3, int(t.slave.Fd()), fd, 0)
	}
	p.Do("take the terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
}

func (t *terminal) close() {
	t.master.Close()
	t.slave.Close()
}
