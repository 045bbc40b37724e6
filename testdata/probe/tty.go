package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// tiocsti tries to put a character into the input of every terminal within reach,
// as if the user had typed it. The kernel looks at the low 32 bits of the request
// only, so a filter must too.
func tiocsti([]string) any {
	answer := map[string]string{}
	char := byte('#')
	terminal := func(name string, fd int) {
		requests := []struct {
			name string
			nr   uintptr
		}{{"TIOCSTI", unix.TIOCSTI}, {"TIOCSTI|1<<32", 1<<32 | unix.TIOCSTI}, {"TIOCLINUX", unix.TIOCLINUX}}
		for _, r := range requests {
			arg := char
			if r.nr == unix.TIOCLINUX {
				arg = 3 // TIOCL_PASTESEL
			}
			err := call(unix.SYS_IOCTL, uintptr(fd), r.nr, uintptr(unsafe.Pointer(&arg)))
			result := errno(err)
			if err == nil {
				result = "ALLOWED"
			}
			answer[name+" "+r.name] = result
		}
	}
	for fd, name := range []string{"stdin", "stdout", "stderr"} {
		terminal(name, fd)
	}
	if fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		terminal("/dev/tty", fd)
		unix.Close(fd)
	}
	return answer
}

// keyring looks for the key ARGS[0] in the session keyring, and in what the kernel would search.
func keyring(args []string) any {
	name := "sbx:secret"
	if len(args) > 0 {
		name = args[0]
	}
	answer := map[string]string{}
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", name, 0)
	answer["search"] = errno(err)
	if err == nil {
		var buf [256]byte
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf[:], 0)
		answer["read"] = errno(err)
		if err == nil {
			answer["text"] = string(buf[:min(n, len(buf))])
		}
	}
	_, err = unix.RequestKey("user", name, "", 0)
	answer["request_key"] = errno(err)
	return answer
}
