//go:build !hot

package slirp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// confine takes from the process what it has no need of, for the day when what a sandbox sends
// should ever lead it astray: any file but those that tell of resolvers and of the host's network, sockets but for
// networks, and the calls that make or change processes, or change what a file is. It keeps the host's network as
// it is, what the log, stderr and the control socket lead to, and what stat(2) tells; and where the kernel has no
// landlock, it may read and write the caller's files. no_new_privs is set already.
func confine(live int) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	if err := keepFromFiles(live); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	if err := dropCapabilities(); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	if err := keepFromCalls(); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}

// dropCapabilities leaves root, on the host or in a container, the one that ports below 1024 take (capabilities(7)).
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	kept := data[0].Permitted & (1 << unix.CAP_NET_BIND_SERVICE)
	data = [2]unix.CapUserData{{Effective: kept, Permitted: kept}}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// readDirs are where resolv.conf and what it is a link to may be, and what package net and the hints of
// PublishError ask the kernel.
func readDirs() []string {
	dirs := []string{"/etc", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/proc/sys/net/core", filepath.Dir(unprivilegedFile)}
	if target, err := filepath.EvalSymlinks(resolvConf); err == nil {
		dirs = append(dirs, filepath.Dir(target))
	}
	return dirs
}

// keepFromFiles lets this process read readDirs, and change nothing but live (landlock(7)). A kernel
// before Linux 5.13, or one that has it switched off, knows no such thing.
func keepFromFiles(live int) error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP || errno == unix.EPERM {
		return nil
	}
	if errno != 0 {
		return errno
	}
	rules, err := createRuleset(int(abi))
	if err != nil {
		return err
	}
	defer unix.Close(rules)
	for _, dir := range readDirs() {
		if err := allowReading(rules, dir); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	if live >= 0 {
		if err := allow(rules, live, unix.LANDLOCK_ACCESS_FS_REMOVE_FILE); err != nil {
			return fmt.Errorf("the network's directory: %w", err)
		}
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(rules), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func createRuleset(abi int) (int, error) {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_REFER - 1} // all of the first
	if abi >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET // not signals: before Linux 6.15 those between threads are caught, too
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func allowReading(rules int, dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return allow(rules, fd, unix.LANDLOCK_ACCESS_FS_READ_FILE)
}

func allow(rules, dir int, access uint64) error {
	attr := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(dir)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// denied are the calls that a network has no use for and an intruder has.
func denied() []uint32 {
	return append(deniedHere(),
		unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP,
		unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIDFD_SEND_SIGNAL,
		unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO,
		unix.SYS_SETPRIORITY, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETATTR, unix.SYS_IOPRIO_SET,
		unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES, unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE,
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_MEMFD_CREATE,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT,
		unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL, unix.SYS_SEMGET, unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP, unix.SYS_SEMCTL,
		unix.SYS_MSGGET, unix.SYS_MSGSND, unix.SYS_MSGRCV, unix.SYS_MSGCTL, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK,
		unix.SYS_SETUID, unix.SYS_SETRESUID, unix.SYS_SETREUID, unix.SYS_CAPSET, unix.SYS_PERSONALITY,
		// What landlock(7) does not know of.
		unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT,
		unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR,
		unix.SYS_UTIMENSAT, unix.SYS_TRUNCATE,
	)
}

// lastKnown is the last call of which this list knows what it is for. Those that came later are none
// at all, which is what the Go runtime meets on a kernel that is older than it.
const lastKnown = unix.SYS_FUTEX_REQUEUE

func refuse() bpf.Instruction {
	return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}
}
func absent() bpf.Instruction {
	return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}
}
func accept() bpf.Instruction { return bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW} }

// argument loads one, as the kernel takes those that are an int: the half that is last, on processors
// that have the least byte first.
func argument(n uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: 16 + 8*n, Size: 4} }

// rule says of a call, by its arguments, whether it is made. Each way through ends.
type rule struct {
	nr   uint32
	body []bpf.Instruction
}

// either is a rule by which an argument must be one of values, or else must not.
func either(nr uint32, arg uint32, allowed bool, values ...uint32) rule {
	in, out := refuse(), accept()
	if allowed {
		in, out = accept(), refuse()
	}
	body := []bpf.Instruction{argument(arg)}
	for _, v := range values {
		body = append(body, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1}, in)
	}
	return rule{nr, append(body, out)}
}

// judged are the calls of which a network needs some.
func judged() []rule {
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	return []rule{
		// Threads, and no processes.
		{unix.SYS_CLONE, []bpf.Instruction{
			argument(0),
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: namespaces, SkipTrue: 1},
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.CLONE_THREAD, SkipTrue: 1},
			refuse(), accept(),
		}},
		{unix.SYS_CLONE3, []bpf.Instruction{absent()}}, // its flags are in memory, where no filter sees them
		// Streams and datagrams of IP, but no raw sockets or packet sockets, which root of a user namespace may have,
		// those by AF_INET, too (packet(7), SOCK_PACKET); and what asks for routes.
		{unix.SYS_SOCKET, []bpf.Instruction{
			argument(0),
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.AF_NETLINK, SkipTrue: 4},
			argument(2), bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NETLINK_ROUTE, SkipTrue: 1},
			refuse(), accept(),
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET6, SkipTrue: 1},
			refuse(),
			argument(1), bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SOCK_STREAM, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SOCK_DGRAM, SkipTrue: 1},
			refuse(),
			argument(2), // others have the kernel load what nobody uses
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_IP, SkipTrue: 5},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_TCP, SkipTrue: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 3},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMP, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 1},
			refuse(), accept(),
		}},
		// For closeLater. Of datagrams, a pair's ends can be connected to whatever listens in the file system.
		either(unix.SYS_SOCKETPAIR, 1, true, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC),
		// The runtime interrupts its own threads so.
		either(unix.SYS_TGKILL, 0, true, uint32(os.Getpid())),
		either(unix.SYS_PRLIMIT64, 0, true, 0, uint32(os.Getpid())),
		// A signal for another process comes with what can be read, too.
		either(unix.SYS_FCNTL, 1, false, unix.F_SETOWN, unix.F_SETOWN_EX, unix.F_SETSIG),
		either(unix.SYS_IOCTL, 1, false, unix.SIOCSPGRP, fioSetOwn, unix.TIOCSTI, unix.TIOCLINUX, unix.TIOCSCTTY),
	}
}

const fioSetOwn = 0x8901 // asm-generic/sockios.h

// keepFromCalls answers EPERM to denied, and to calls of another architecture, in every thread.
func keepFromCalls() error {
	const number, architecture = 0, 4 // offsets in struct seccomp_data
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: architecture, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		refuse(),
		bpf.LoadAbsolute{Off: number, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: 0x40000000, SkipTrue: 1}, // above are x32's
		refuse(),
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: lastKnown, SkipTrue: 1},
		absent(),
	}
	for _, nr := range denied() {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: 1}, refuse())
	}
	for _, r := range judged() {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: r.nr, SkipTrue: uint8(len(r.body))})
		program = append(program, r.body...)
	}
	raw, err := bpf.Assemble(append(program, accept()))
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno == unix.EPERM || errno == unix.ENOSYS: // by a filter around sbx: sbx-init has more to say on that
		return nil
	case errno != 0:
		return errno
	case thread != 0:
		return fmt.Errorf("thread %d cannot have it", thread)
	}
	return nil
}
