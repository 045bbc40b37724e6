package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refuse executes the program ARGS[1:] under a filter that answers ENOSYS, or after EPERM= or ENOPROTOOPT=
// that, to the calls ARGS[0] names, with commas between them; packet is socket(AF_PACKET), ip_transparent
// and vnet_hdr_sz are setsockopt(IP_TRANSPARENT) and (PACKET_VNET_HDR_SZ). It is a container around sbx, or an older kernel below.
func refuse(args []string) any {
	numbers := map[string]uint32{
		"execveat": unix.SYS_EXECVEAT, "fsopen": unix.SYS_FSOPEN, "mount_setattr": unix.SYS_MOUNT_SETATTR, "openat2": unix.SYS_OPENAT2,
		"pivot_root": unix.SYS_PIVOT_ROOT, "seccomp": unix.SYS_SECCOMP, "sethostname": unix.SYS_SETHOSTNAME,
	}
	withArgument := map[string]struct{ number, argument, value uint32 }{
		"packet":         {unix.SYS_SOCKET, 0, unix.AF_PACKET},
		"ip_transparent": {unix.SYS_SETSOCKOPT, 2, unix.IP_TRANSPARENT}, // of other levels: SO_SNDLOWAT, IPV6_MULTICAST_LOOP
		"vnet_hdr_sz":    {unix.SYS_SETSOCKOPT, 2, 24},                  // of other levels: IPV6_UNICAST_HOPS
	}
	names, answer := args[0], unix.ENOSYS
	for name, errno := range map[string]unix.Errno{"EPERM=": unix.EPERM, "ENOPROTOOPT=": unix.ENOPROTOOPT} {
		if rest, ok := strings.CutPrefix(names, name); ok {
			names, answer = rest, errno
		}
	}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // seccomp_data.nr
	for name := range strings.SplitSeq(names, ",") {
		if call, ok := withArgument[name]; ok {
			filter = append(filter,
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 4, K: call.number},
				unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16 + 8*call.argument}, // seccomp_data.args
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call.value},
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
