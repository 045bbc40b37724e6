package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fds is every descriptor below 4096 that we were given, and what it leads to. One that
// is close-on-exec was not: Go's runtime opens some for itself.
func fds([]string) any {
	answer := map[string]string{}
	for fd := range 4096 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			link = errno(err)
		}
		answer[strconv.Itoa(fd)] = link
	}
	return answer
}

// env is our own environment, and whether NEEDLE (ARGS) stands in that of any process we can see.
func env(args []string) any {
	answer := struct {
		Own   []string `json:"own"`
		Found []string `json:"found"`
	}{os.Environ(), []string{}}
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		text, err := os.ReadFile("/proc/" + d.Name() + "/environ")
		if err != nil {
			continue
		}
		for _, needle := range args {
			if strings.Contains(string(text), needle) {
				answer.Found = append(answer.Found, d.Name()+" "+needle)
			}
		}
	}
	return answer
}

// cwd is what the kernel says; a path that begins with (unreachable) lies outside of the root.
func cwd([]string) any {
	var buf [4096]byte
	n, _, no := unix.RawSyscall(unix.SYS_GETCWD, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0)
	if no != 0 {
		return map[string]any{"error": errno(no)}
	}
	path := strings.TrimRight(string(buf[:n]), "\x00")
	names := []string{}
	if dir, err := os.ReadDir("."); err == nil {
		for _, d := range dir {
			names = append(names, d.Name())
		}
	}
	return map[string]any{"cwd": path, "absolute": strings.HasPrefix(path, "/"), "names": names}
}

// caps is who we are and what we may do, by system calls.
func caps([]string) any {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return map[string]any{"error": errno(err)}
	}
	set := func(low, high uint32) []int {
		bits := []int{}
		for i := range 64 {
			if (uint64(high)<<32|uint64(low))>>i&1 != 0 {
				bits = append(bits, i)
			}
		}
		return bits
	}
	bounding, ambient := []int{}, []int{}
	for i := range 64 {
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0); err == nil && v == 1 {
			bounding = append(bounding, i)
		}
		if v, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(i), 0, 0); err == nil && v == 1 {
			ambient = append(ambient, i)
		}
	}
	nnp, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	seccomp, _ := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	securebits, _ := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	groups, _ := unix.Getgroups()
	slices.Sort(groups)
	umask := unix.Umask(0)
	return map[string]any{
		"uid": unix.Getuid(), "gid": unix.Getgid(), "groups": groups, "umask": fmt.Sprintf("%04o", umask),
		"effective":   set(data[0].Effective, data[1].Effective),
		"permitted":   set(data[0].Permitted, data[1].Permitted),
		"inheritable": set(data[0].Inheritable, data[1].Inheritable),
		"bounding":    bounding, "ambient": ambient,
		"no_new_privs": nnp, "seccomp": seccomp, "securebits": securebits,
		"pid": unix.Getpid(), "oom_score_adj": read("/proc/self/oom_score_adj"),
	}
}

func read(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return errno(err)
	}
	return strings.TrimSpace(string(text))
}

// limits is soft and hard of every resource limit; -1 is none. Not of nofile: Go raises its
// own soft limit when it starts.
func limits([]string) any {
	names := []string{"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "", "memlock", "as",
		"locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"}
	answer := map[string][2]int64{}
	for i, name := range names {
		var r unix.Rlimit
		if err := unix.Prlimit(0, i, nil, &r); err != nil || name == "" {
			continue
		}
		answer[name] = [2]int64{int64(r.Cur), int64(r.Max)}
	}
	return answer
}

// signals is which signals came ignored or blocked, as /proc/self/status has it, and which
// of ARGS arrive within two seconds.
func signals([]string) any {
	answer := map[string]string{}
	// A shell's view: Go has installed its own handlers by now, but keeps an ignored SIGHUP, SIGINT and blocked masks.
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		answer[unix.SignalName(s)] = "default"
		if signal.Ignored(s) {
			answer[unix.SignalName(s)] = "ignored"
		}
	}
	for line := range strings.Lines(read("/proc/self/status")) {
		if name, value, ok := strings.Cut(line, ":"); ok && (name == "SigBlk" || name == "SigIgn") {
			answer[name] = strings.TrimSpace(value)
		}
	}
	return answer
}

// ptrace attaches to the process ARGS[0].
func ptrace(args []string) any {
	pid, err := strconv.Atoi(strings.Join(args, ""))
	if err != nil {
		return map[string]string{"attach": err.Error()}
	}
	err = unix.PtraceSeize(pid)
	return map[string]string{"attach": errno(err)}
}

// orphans leaves ARGS[0] grandchildren behind, and counts the zombies they became a moment later.
func orphans(args []string) any {
	count, err := strconv.Atoi(strings.Join(args, ""))
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	sh := fmt.Sprintf("i=0; while [ $i -lt %d ]; do (true & true); i=$((i+1)); done", count)
	if err := exec.Command("/bin/sh", "-c", sh).Run(); err != nil {
		return map[string]string{"error": err.Error()}
	}
	time.Sleep(300 * time.Millisecond)
	zombies := 0
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		text, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		if err != nil {
			continue
		}
		if _, rest, ok := strings.Cut(string(text), ") "); ok && strings.HasPrefix(rest, "Z") {
			zombies++
		}
	}
	return map[string]int{"zombies": zombies}
}

// connect tries to reach each HOST:PORT of ARGS within a second.
func connect(args []string) any {
	answer := map[string]string{}
	for _, addr := range args {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		answer[addr] = errno(err)
	}
	return answer
}
