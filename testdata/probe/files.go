package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// files is what can be read of, and opened for writing at, the paths through which a
// sandbox could reach the machine. Nothing is written.
func files(args []string) any {
	paths := args
	if len(paths) == 0 {
		paths = []string{
			"/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/kmsg", "/proc/kallsyms", "/proc/sched_debug",
			"/proc/timer_list", "/proc/latency_stats", "/proc/interrupts", "/proc/iomem", "/proc/config.gz",
			"/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/acpi", "/proc/scsi", "/proc/asound",
			"/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/pressure/cpu",
			"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname",
			"/proc/sys/vm/overcommit_memory", "/proc/sys/fs/binfmt_misc", "/proc/sys/kernel/randomize_va_space",
			"/proc/1/environ", "/proc/1/mem",
			"/sys/kernel/uevent_helper", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security",
			"/sys/kernel/mm", "/sys/firmware", "/sys/fs/bpf", "/sys/fs/pstore", "/sys/fs/selinux",
			"/sys/devices/virtual/powercap", "/sys/devices/virtual/dmi", "/sys/power/state", "/sys/fs/cgroup/cgroup.procs",
			"/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/fuse", "/dev/net/tun", "/dev/kvm",
			"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx",
			"/dev/shm", "/dev/mqueue", "/dev/console", "/dev/core", "/dev/fd", "/dev/stdin",
		}
	}
	answer := map[string]map[string]string{}
	for _, p := range paths {
		answer[p] = map[string]string{"read": readable(p), "write": writable(p)}
	}
	return answer
}

// readable is ok, empty (an empty file or directory, as a mask leaves it) or an error.
func readable(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return errno(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errno(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		entries, err := os.ReadDir(path)
		switch {
		case err != nil:
			return errno(err)
		case len(entries) == 0:
			return "empty"
		}
		return "ok"
	}
	var buf [1]byte
	n, err := unix.Read(fd, buf[:])
	switch {
	case err != nil:
		return errno(err)
	case n == 0:
		return "empty"
	}
	return "ok"
}

func writable(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return errno(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		name := path + "/probe-was-here"
		err := unix.Mkdir(name, 0o700)
		if err == nil {
			unix.Rmdir(name)
		}
		return errno(err)
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errno(err)
}

// mounts is the mount table: where, what kind, and how.
func mounts([]string) any {
	type mount struct {
		Point   string `json:"point"`
		Type    string `json:"type"`
		Options string `json:"options"`
		Source  string `json:"source"`
		Super   string `json:"super"`
	}
	answer := []mount{}
	for line := range strings.Lines(read("/proc/self/mountinfo")) {
		left, right, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 6 || len(g) < 3 {
			continue
		}
		answer = append(answer, mount{f[4], g[0], f[5], g[1], g[2]})
	}
	return answer
}

// umount tries to take away or reopen each mount point of ARGS.
func umount(args []string) any {
	answer := map[string]map[string]string{}
	for _, p := range args {
		answer[p] = map[string]string{
			"remount": errno(unix.Mount("", p, "", unix.MS_REMOUNT|unix.MS_BIND, "")),
			"umount":  errno(unix.Unmount(p, unix.MNT_DETACH)),
		}
	}
	return answer
}

// exeOverwrite tries for ARGS[0] seconds to open the program of pid 1 for writing, by the
// link that leads past every mount (CVE-2019-5736).
func exeOverwrite(args []string) any {
	seconds, _ := strconv.ParseFloat(strings.Join(args, ""), 64)
	answer := map[string]any{"tries": 0, "errors": map[string]int{}}
	counts := answer["errors"].(map[string]int)
	answer["link"], _ = os.Readlink("/proc/1/exe")
	fd, err := unix.Open("/proc/1/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		answer["open"] = errno(err)
		return answer
	}
	answer["open"] = "ok"
	if r, err := unix.Open("/proc/1/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		if seals, err := unix.FcntlInt(uintptr(r), unix.F_GET_SEALS, 0); err == nil {
			answer["seals"] = seals & 0xf
		}
		unix.Close(r)
	}
	tries := 0
	for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); ; {
		w, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(w)
		}
		counts[errno(err)]++
		tries++
		if time.Now().After(end) {
			break
		}
	}
	answer["tries"] = tries
	return answer
}
