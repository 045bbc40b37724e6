package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// syscalls are system calls that change what is shared, load code into the
// kernel, or open a large surface. Arguments are wrong on purpose where success
// would do harm: a call that is allowed then says EFAULT, EINVAL or EBADF, and
// one that is refused says EPERM or ENOSYS.
func syscalls() []attempt {
	bad := ^uintptr(0) // no descriptor, no address
	zero := unsafe.Pointer(new([256]byte))
	z := uintptr(zero)
	nr := func(name string, nr uintptr, args ...uintptr) attempt {
		return attempt{name, func() error { return call(nr, args...) }}
	}
	return []attempt{
		{"unshare-user", func() error { return forked(0, unix.SYS_UNSHARE, unix.CLONE_NEWUSER) }},
		{"unshare-mount", func() error { return forked(0, unix.SYS_UNSHARE, unix.CLONE_NEWNS) }},
		{"clone-user", func() error { return forked(unix.CLONE_NEWUSER, unix.SYS_GETPID, 0) }},
		nr("clone3", unix.SYS_CLONE3, z, 1),
		nr("setns", unix.SYS_SETNS, bad, 0),
		nr("mount", unix.SYS_MOUNT, 0, z, 0, 0, 0),
		nr("umount2", unix.SYS_UMOUNT2, bad, 0),
		nr("pivot_root", unix.SYS_PIVOT_ROOT, bad, bad),
		nr("chroot", unix.SYS_CHROOT, bad),
		nr("fsopen", unix.SYS_FSOPEN, bad, 0),
		nr("open_tree", unix.SYS_OPEN_TREE, bad, bad, 0),
		nr("move_mount", unix.SYS_MOVE_MOUNT, bad, bad, bad, bad, 0),
		nr("mount_setattr", unix.SYS_MOUNT_SETATTR, bad, bad, 0, bad, 32),
		nr("mknod-block", unix.SYS_MKNODAT, bad, bad, unix.S_IFBLK|0o600, 0x100),
		nr("bpf", unix.SYS_BPF, 0, bad, 0),
		nr("perf_event_open", unix.SYS_PERF_EVENT_OPEN, bad, 0, 0, bad, 0),
		nr("io_uring_setup", unix.SYS_IO_URING_SETUP, 1, bad),
		nr("io_uring_enter", unix.SYS_IO_URING_ENTER, bad, 0, 0, 0, 0, 0),
		nr("userfaultfd", unix.SYS_USERFAULTFD, bad),
		nr("keyctl", unix.SYS_KEYCTL, 0, bad, 0), // KEYCTL_GET_KEYRING_ID
		nr("add_key", unix.SYS_ADD_KEY, bad, bad, 0, 0, bad),
		nr("request_key", unix.SYS_REQUEST_KEY, bad, bad, 0, 0),
		nr("kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0, bad),
		nr("init_module", unix.SYS_INIT_MODULE, bad, 0, bad),
		nr("finit_module", unix.SYS_FINIT_MODULE, bad, bad, bad),
		nr("delete_module", unix.SYS_DELETE_MODULE, bad, 0),
		nr("reboot", unix.SYS_REBOOT, 0, 0, 0),
		nr("swapon", unix.SYS_SWAPON, bad, 0),
		nr("acct", unix.SYS_ACCT, bad),
		nr("quotactl", unix.SYS_QUOTACTL, bad, bad, 0, 0),
		nr("syslog", unix.SYS_SYSLOG, 3, bad, 1),
		nr("settimeofday", unix.SYS_SETTIMEOFDAY, bad, 0),
		nr("clock_settime", unix.SYS_CLOCK_SETTIME, 0, bad),
		nr("iopl", unix.SYS_IOPL, 3),
		nr("ioperm", unix.SYS_IOPERM, 0x80, 1, 1),
		nr("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, bad, bad, 0),
		nr("name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT, bad, bad, bad, bad, 0),
		nr("lookup_dcookie", unix.SYS_LOOKUP_DCOOKIE, 0, bad, 0),
		nr("personality", unix.SYS_PERSONALITY, 0xffffffff),
		nr("ptrace", unix.SYS_PTRACE, unix.PTRACE_ATTACH, 0x3ffffff, 0, 0),
		nr("process_vm_readv", unix.SYS_PROCESS_VM_READV, 0x3ffffff, 0, 0, 0, 0, 0),
		nr("pidfd_getfd", unix.SYS_PIDFD_GETFD, bad, 0, 0),
		nr("kcmp", unix.SYS_KCMP, 0x3ffffff, 0x3ffffff, 0, 0, 0),
		nr("memfd_secret", unix.SYS_MEMFD_SECRET, bad),
		nr("vhangup", unix.SYS_VHANGUP),
		nr("sethostname", unix.SYS_SETHOSTNAME, bad, 1),
		nr("fanotify_init", unix.SYS_FANOTIFY_INIT, bad, 0),
		nr("unknown", 0x3fff),
		nr("getpid", unix.SYS_GETPID),
	}
}

// forked makes a system call in a clone with one thread: a user namespace is not for a
// process with several.
func forked(flags, nr, arg uintptr) error {
	pid, _, no := unix.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if no != 0 {
		return no
	}
	if pid == 0 {
		_, _, no := unix.RawSyscall(nr, arg, 0, 0)
		unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(no), 0, 0)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(int(pid), &status, 0, nil); err != nil {
		return err
	}
	return unix.Errno(status.ExitStatus())
}

// sockets are the families and, for netlink, the protocols.
func sockets() []attempt {
	socket := func(name string, family, kind, proto int) attempt {
		return attempt{name, func() error {
			fd, err := unix.Socket(family, kind, proto)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}}
	}
	return []attempt{
		socket("unix", unix.AF_UNIX, unix.SOCK_STREAM, 0),
		socket("inet-stream", unix.AF_INET, unix.SOCK_STREAM, 0),
		socket("inet-dgram", unix.AF_INET, unix.SOCK_DGRAM, 0),
		socket("inet-ping", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP),
		socket("inet-raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
		socket("inet6-stream", unix.AF_INET6, unix.SOCK_STREAM, 0),
		socket("packet", unix.AF_PACKET, unix.SOCK_RAW, 0),
		socket("netlink-route", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
		socket("netlink-sock-diag", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG),
		socket("netlink-xfrm", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM),
		socket("netlink-audit", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT),
		socket("netlink-netfilter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER),
		socket("netlink-uevent", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT),
		socket("netlink-crypto", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_CRYPTO),
		socket("netlink-rdma", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_RDMA),
		socket("alg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
		socket("vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0),
		socket("key", unix.AF_KEY, unix.SOCK_RAW, 2),
		socket("rxrpc", unix.AF_RXRPC, unix.SOCK_DGRAM, unix.AF_INET),
		socket("tipc", unix.AF_TIPC, unix.SOCK_STREAM, 0),
		socket("rds", unix.AF_RDS, unix.SOCK_SEQPACKET, 0),
		socket("smc", unix.AF_SMC, unix.SOCK_STREAM, 0),
		socket("xdp", unix.AF_XDP, unix.SOCK_RAW, 0),
		socket("can", unix.AF_CAN, unix.SOCK_RAW, 1),
		socket("bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1),
		socket("x25", unix.AF_X25, unix.SOCK_SEQPACKET, 0),
		socket("ax25", unix.AF_AX25, unix.SOCK_SEQPACKET, 0),
		socket("appletalk", unix.AF_APPLETALK, unix.SOCK_DGRAM, 0),
		socket("nfc", unix.AF_NFC, unix.SOCK_SEQPACKET, 0),
		socket("kcm", unix.AF_KCM, unix.SOCK_DGRAM, 0),
		socket("qipcrtr", unix.AF_QIPCRTR, unix.SOCK_DGRAM, 0),
	}
}

// abi are the other ways into the kernel of an x86-64 machine: getpid by each.
func abi() []attempt {
	return []attempt{
		{"int80", func() error { return result(int80(20)) }},
		{"int80-unshare", func() error { return result(int80(310)) }}, // unshare(EBX = 0)
		{"x32", func() error { return call(0x40000000 | unix.SYS_GETPID) }},
	}
}

// result is a return value as the kernel leaves it in a register.
func result(v int32) error {
	if v < 0 {
		return unix.Errno(-v)
	}
	return nil
}

// int80 is a system call of the 32-bit ABI with all arguments zero.
func int80(nr int32) int32
