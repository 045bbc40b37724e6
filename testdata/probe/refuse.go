package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refuse executes the program ARGS[1:] under a filter that answers ENOSYS, or after EPERM=
// that, to the calls ARGS[0] names, with commas between them; packet is socket(AF_PACKET). It is a container
// around sbx.
func refuse(args []string) any {
	numbers := map[string]uint32{
		"execveat": unix.SYS_EXECVEAT, "fsopen": unix.SYS_FSOPEN, "mount_setattr": unix.SYS_MOUNT_SETATTR, "openat2": unix.SYS_OPENAT2,
		"pivot_root": unix.SYS_PIVOT_ROOT, "seccomp": unix.SYS_SECCOMP, "sethostname": unix.SYS_SETHOSTNAME,
	}
	names, answer := args[0], unix.ENOSYS
	if rest, ok := strings.CutPrefix(names, "EPERM="); ok {
		names, answer = rest, unix.EPERM
	}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // seccomp_data.nr
	for name := range strings.SplitSeq(names, ",") {
		if name == "packet" {
			const domain = 16 // seccomp_data.args[0]
			filter = append(filter,
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 4, K: unix.SYS_SOCKET},
				unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: domain},
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.AF_PACKET},
				unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ERRNO | uint32(answer)},
				unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS})
			continue
		}
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: numbers[name]},
			unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ERRNO | uint32(answer)})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	path, err := exec.LookPath(args[1])
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err == nil {
		if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
			err = errno
		}
	}
	if err == nil {
		err = unix.Exec(path, args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "probe: refuse:", err)
	os.Exit(2)
	return nil
}
