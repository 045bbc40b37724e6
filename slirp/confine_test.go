//go:build !hot

package slirp

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestConfine runs this binary again, confined: what a network needs works, the rest does not.
func TestConfine(t *testing.T) {
	secret := os.Getenv("SBX_TEST_SECRET")
	if secret == "" {
		secret = filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"unix", "unixgram"} {
			fd, err := unix.Socket(unix.AF_UNIX, map[string]int{"unix": unix.SOCK_STREAM, "unixgram": unix.SOCK_DGRAM}[kind]|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				defer unix.Close(fd)
				err = unix.Bind(fd, &unix.SockaddrUnix{Name: secret + "." + kind})
			}
			if err == nil && kind == "unix" {
				err = unix.Listen(fd, 1)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestConfine$", "-test.v")
		cmd.Env = append(os.Environ(), "SBX_TEST_SECRET="+secret)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if _, err := unix.PrctlRetInt(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	// Landlock and the filter need no_new_privs in every thread: here as sbx-net has it, from exec.
	if os.Getenv("SBX_TEST_AGAIN") == "" {
		t.Fatal(unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), "SBX_TEST_AGAIN=1")))
	}
	own, err := os.OpenFile(secret, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	t.Logf("landlock %d %v", abi, errno)
	if err := confine(-1); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(resolvConf); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("resolv.conf: %v", err)
	}
	if _, err := os.ReadFile(unprivilegedFile); err != nil {
		t.Errorf("what a hint says: %v", err)
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Errorf("listen: %v", err)
	} else if c, err := net.Dial("tcp", l.Addr().String()); err != nil {
		t.Errorf("dial: %v", err)
	} else {
		c.Close()
	}
	if _, err := os.Open(secret); errno == 0 && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a file of the caller's: %v", err)
	}
	if err := os.WriteFile(secret, nil, 0); errno == 0 && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a file of the caller's, to write: %v", err)
	}
	refusedCalls(t, secret, own)
	fmt.Println("confined")
}

// refusedCalls makes the calls that an intruder would, on a file that is the caller's, open or not, and on the
// caller itself.
func refusedCalls(t *testing.T, path string, open *os.File) {
	fd, parent := int(open.Fd()), os.Getppid()
	call := func(nr uintptr, args ...uintptr) error {
		args = append(args, 0, 0, 0, 0, 0, 0)
		if _, _, errno := unix.Syscall6(nr, args[0], args[1], args[2], args[3], args[4], args[5]); errno != 0 {
			return errno
		}
		return nil
	}
	child := func(flags uintptr) error { // one that is made ends at once
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		unix.Wait4(int(pid), nil, 0, nil)
		return nil
	}
	socket := func(family, kind, protocol int) error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		unix.Close(fd)
		return err
	}
	// A pair of datagram sockets is connected anew with one call.
	datagram := func() error {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(pair[0], &unix.SockaddrUnix{Name: path + ".unixgram"})
		}
		return err
	}
	now := []unix.Timeval{{Sec: 1}, {Sec: 1}}
	for _, c := range []struct {
		name string
		err  error
	}{
		{"exec", unix.Exec("/bin/true", []string{"true"}, nil)},
		{"unshare", unix.Unshare(unix.CLONE_NEWUSER)},
		{"fork", child(0)},
		{"clone, a user namespace", child(unix.CLONE_NEWUSER)},
		{"clone, a thread in a net namespace", call(unix.SYS_CLONE, unix.CLONE_VM|unix.CLONE_SIGHAND|unix.CLONE_THREAD|unix.CLONE_NEWNET)},

		{"kill", unix.Kill(parent, 0)},
		{"tgkill", unix.Tgkill(parent, parent, 0)},
		{"rt_tgsigqueueinfo", call(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(parent), uintptr(parent))},
		{"prlimit", unix.Prlimit(parent, unix.RLIMIT_CPU, nil, new(unix.Rlimit))},
		{"setpriority", unix.Setpriority(unix.PRIO_PROCESS, parent, 19)},
		{"sched_setaffinity", unix.SchedSetaffinity(parent, &unix.CPUSet{1})},
		{"fcntl F_SETOWN", call(unix.SYS_FCNTL, uintptr(fd), unix.F_SETOWN, uintptr(parent))},
		{"fcntl F_SETSIG", call(unix.SYS_FCNTL, uintptr(fd), unix.F_SETSIG, uintptr(unix.SIGKILL))},
		{"ioctl SIOCSPGRP", call(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSPGRP)},
		{"ioctl TIOCSTI", call(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI)},
		{"shmget", call(unix.SYS_SHMGET, 0, 1, 0o600)},

		{"chmod", unix.Fchmodat(unix.AT_FDCWD, path, 0o777, 0)},
		{"fchmodat2", call(unix.SYS_FCHMODAT2, uintptr(fd), 0, 0)},
		{"fchmod", unix.Fchmod(fd, 0o777)},
		{"chown", unix.Fchownat(unix.AT_FDCWD, path, -1, -1, 0)},
		{"fchown", unix.Fchown(fd, -1, -1)},
		{"setxattr", unix.Setxattr(path, "user.x", []byte("x"), 0)},
		{"lsetxattr", unix.Lsetxattr(path, "user.x", []byte("x"), 0)},
		{"fsetxattr", unix.Fsetxattr(fd, "user.x", []byte("x"), 0)},
		{"removexattr", unix.Removexattr(path, "user.x")},
		{"fremovexattr", unix.Fremovexattr(fd, "user.x")},
		{"utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: 1}, {Sec: 1}}, 0)},
		{"futimes", unix.Futimes(fd, now)},
		{"truncate", unix.Truncate(path, 1)},

		{"unix socket", socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)},
		{"unix datagrams", datagram()},
		{"packet socket", socket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"raw socket", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)},
		{"raw socket, IPv6", socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_UDP)},
		{"packet socket, as before Linux 2.2", socket(unix.AF_INET, unix.SOCK_PACKET, 0)},
		{"SCTP, one socket for many", socket(unix.AF_INET, unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP)},
		{"netlink but for routes", socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC)},
		{"vsock", socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)},
		{"alg", socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)},
	} {
		if !errors.Is(c.err, unix.EPERM) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
	for name, nr := range map[string]uintptr{"clone3": unix.SYS_CLONE3, "setxattrat": unix.SYS_SETXATTRAT, "file_setattr": unix.SYS_FILE_SETATTR, "one to come": 1000} {
		if err := call(nr); !errors.Is(err, unix.ENOSYS) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE); err != nil {
		t.Errorf("netlink, routes: %v", err)
	}
	if err := closeLater(fd); err != nil {
		t.Errorf("close later: %v", err)
	}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, new(unix.Rlimit)); err != nil {
		t.Errorf("its own limits: %v", err)
	}
	runtime.LockOSThread()
	started := make(chan struct{}) // a thread more
	go close(started)
	<-started
}
