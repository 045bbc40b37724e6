package userns

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The runtime offers these to package syscall, which forks; gVisor uses them too.
// BeforeFork blocks all signals.

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

// cloneShared is clone(2) with CLONE_VM among the flags: the child uses this memory, at the
// same time, and makes the calls on its own stack, below where stack points to.
func cloneShared(flags uintptr, stack *byte, pidfd *int32, calls []call, report int) (pid, errno uintptr)

// fork clones the process and makes calls in the child. Given a stack the child shares the
// memory, else it has a copy.
//
//go:noinline
//go:norace
//go:nosplit
//go:nocheckptr
func fork(flags uintptr, stack *byte, pidfd *int32, calls []call, report int) (uintptr, syscall.Errno) {
	flags |= uintptr(unix.SIGCHLD) | unix.CLONE_PIDFD
	runtimeBeforeFork()
	var pid, errno uintptr
	if stack != nil {
		pid, errno = cloneShared(flags|unix.CLONE_VM, stack, pidfd, calls, report)
	} else {
		r, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, flags, 0, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
		pid, errno = r, uintptr(e)
		if pid == 0 && errno == 0 {
			live(calls, report)
		}
	}
	runtimeAfterFork()
	return pid, syscall.Errno(errno)
}

// live is the child's whole life in this program. It has one thread, and shares memory with
// a runtime that does not know it: no allocation, no stack growth (nosplit), no locks, only
// RawSyscall.
//
//go:noinline
//go:norace
//go:nosplit
//go:nocheckptr
func live(calls []call, report int) {
	resetSignals()
	runCalls(calls, report)
}

// runCalls makes the calls, the last of which executes something.
//
//go:norace
//go:nosplit
//go:nocheckptr
func runCalls(calls []call, report int) {
	var denied syscall.Errno
	for i := 0; i < len(calls); i++ {
		c := &calls[i]
		if c.kind == reaping {
			if errno := reapUntilEnd(); errno != 0 {
				fail(report, i, errno)
			}
			continue
		}
		if c.kind == spawning {
			s := c.sibling
			pid, errno := cloneShared(s.flags, s.top, nil, s.calls, s.report)
			if errno != 0 {
				fail(report, i, syscall.Errno(errno))
			}
			*c.out = Result(pid)
			continue
		}
		args := c.args
		for j := range args {
			if c.from[j] != nil {
				args[j] = uintptr(*c.from[j])
			}
		}
		r, _, errno := syscall.RawSyscall6(c.nr, args[0], args[1], args[2], args[3], args[4], args[5])
		*c.out = Result(r)
		switch {
		case errno == 0 && c.kind == await && r == 0:
			fail(report, i, unix.EPIPE)
		case errno == 0 || c.kind == try:
		case c.kind == execute && (errno == unix.ENOENT || errno == unix.ENOTDIR || errno == unix.EACCES):
			if errno == unix.EACCES {
				denied = errno
			}
			if i == len(calls)-1 && denied != 0 {
				fail(report, i, denied)
			}
			if i == len(calls)-1 {
				fail(report, i, errno)
			}
		default:
			fail(report, i, errno)
		}
	}
	syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
}

// fail reports which call failed and ends the child.
//
//go:norace
//go:nosplit
//go:nocheckptr
func fail(report, index int, errno syscall.Errno) {
	r := [2]uint32{uint32(index), uint32(errno)}
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(report), uintptr(unsafe.Pointer(&r)), unsafe.Sizeof(r))
	syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 125, 0, 0)
}

// resetSignals gives every signal its default action and unblocks it. A caller may
// have ignored SIGPIPE or SIGCHLD, as Python and Erlang do, and exec keeps that.
//
//go:norace
//go:nosplit
//go:nocheckptr
func resetSignals() {
	var act [4]uintptr // struct kernel_sigaction: SIG_DFL, no flags, empty mask
	for sig := uintptr(1); sig <= 64; sig++ {
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
	}
	var none uint64
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
}

// reapUntilEnd forks. In the child it returns, so that the program goes on there;
// the parent stays in here and ends as the child ends.
//
//go:norace
//go:nosplit
//go:nocheckptr
func reapUntilEnd() syscall.Errno {
	all := ^uint64(0)
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), 0, 8, 0, 0)
	child, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if child == 0 {
		var none uint64
		syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
		return 0
	}
	syscall.RawSyscall(syscall.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0)
	// The command's files are not this process's: a pipe must end when the command ends.
	syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 0, 1<<31-1, 0)
	for {
		sig, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&all)), 0, 0, 8, 0, 0)
		if errno != 0 {
			continue
		}
		if sig != uintptr(unix.SIGCHLD) {
			syscall.RawSyscall(syscall.SYS_KILL, child, sig, 0)
			continue
		}
		for {
			var status unix.WaitStatus
			pid, _, errno := syscall.RawSyscall6(syscall.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&status)), unix.WNOHANG, 0, 0, 0)
			if errno != 0 || pid == 0 {
				break
			}
			if pid != child {
				continue
			}
			code := uintptr(status.ExitStatus())
			if status.Signaled() {
				code = 128 + uintptr(status.Signal())
			}
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, code, 0, 0)
		}
	}
}
