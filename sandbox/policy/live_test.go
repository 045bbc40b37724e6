package policy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const liveVar = "SBX_POLICY_LIVE" // the child's preset

// TestLive gives each preset's filter to the kernel, in a child of its own, and makes a few calls under it.
func TestLive(t *testing.T) {
	if preset := os.Getenv(liveVar); preset != "" {
		live(preset)
	}
	for _, test := range []struct{ preset, want string }{
		{"default", `
			getpid ok
			socket-alg EAFNOSUPPORT
			socket-vsock EAFNOSUPPORT
			socket-packet EAFNOSUPPORT
			socket-unix ok
			socket-route ok
			unshare EPERM
			unshare-user EPERM
			clone-user EPERM
			clone3 ENOSYS
			keyctl ENOSYS
			io-uring ENOSYS
			tiocsti EPERM
			tiocsti-high EPERM
			ptrace ESRCH
			nr-1000 ENOSYS
			x32 ENOSYS`},
		{"untrusted", `
			getpid ok
			socket-alg EAFNOSUPPORT
			socket-vsock EAFNOSUPPORT
			socket-packet EAFNOSUPPORT
			socket-unix ok
			socket-route ok
			unshare EPERM
			unshare-user EPERM
			clone-user EPERM
			clone3 ENOSYS
			keyctl ENOSYS
			io-uring ENOSYS
			tiocsti EPERM
			tiocsti-high EPERM
			ptrace EPERM
			nr-1000 ENOSYS
			x32 ENOSYS`},
		{"compat", `
			getpid ok
			socket-alg EAFNOSUPPORT
			socket-vsock EAFNOSUPPORT
			socket-unix ok
			socket-route ok
			unshare ok
			unshare-user EINVAL
			clone3 EINVAL
			keyctl ENOSYS
			io-uring ENOSYS
			tiocsti EPERM
			tiocsti-high EPERM
			ptrace ESRCH
			nr-1000 ENOSYS
			x32 ENOSYS`},
	} {
		t.Run(test.preset, func(t *testing.T) {
			child := exec.Command(os.Args[0], "-test.run=^TestLive$")
			child.Env = append(os.Environ(), liveVar+"="+test.preset)
			out, err := child.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			have := map[string]string{}
			for line := range strings.Lines(string(out)) {
				name, result, _ := strings.Cut(strings.TrimSpace(line), " ")
				have[name] = result
			}
			for line := range strings.Lines(strings.TrimSpace(test.want)) {
				name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
				if name == "x32" && runtime.GOARCH != "amd64" {
					continue
				}
				if have[name] != want {
					t.Errorf("%s: %s, want %s", name, have[name], want)
				}
			}
		})
	}
}

// live loads the filter of a preset into all threads of this process, makes the
// calls, and exits. Each call is one that the kernel alone would answer otherwise,
// where the kernel has what it is about.
func live(preset string) {
	load(preset)
	const newuser = unix.CLONE_NEWUSER
	for _, c := range []struct {
		name    string
		nr      uintptr
		a, b, c uintptr
	}{
		{"getpid", unix.SYS_GETPID, 0, 0, 0},
		{"socket-alg", unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		{"socket-vsock", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		{"socket-packet", unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0},
		{"socket-unix", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0},
		{"socket-route", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
		{"unshare", unix.SYS_UNSHARE, 0, 0, 0},
		{"unshare-user", unix.SYS_UNSHARE, newuser | unix.CLONE_THREAD, 0, 0},
		{"clone-user", unix.SYS_CLONE, newuser | unix.CLONE_FS, 0, 0}, // EINVAL to the kernel: nothing is cloned
		{"clone3", unix.SYS_CLONE3, 0, 0, 0},
		{"keyctl", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0},
		{"io-uring", unix.SYS_IO_URING_SETUP, 0, 0, 0},
		{"tiocsti", unix.SYS_IOCTL, 0, unix.TIOCSTI, 0},
		{"tiocsti-high", unix.SYS_IOCTL, 0, 1<<32 | unix.TIOCSTI, 0},
		{"ptrace", unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1 << 30, 0},
		{"nr-1000", 1000, 0, 0, 0},
		{"x32", x32Bit | unix.SYS_GETPID, 0, 0, 0},
	} {
		_, _, errno := unix.RawSyscall(c.nr, c.a, c.b, c.c)
		result := "ok"
		if errno != 0 {
			result = unix.ErrnoName(errno)
		}
		fmt.Println(c.name, result)
	}
	os.Exit(0)
}

// load puts all threads of this process under the filter of a preset.
func load(preset string) {
	p, err := Find(preset)
	if err != nil {
		fail(err)
	}
	f, err := Seccomp(p, p.capMask(), p.Compat32)
	if err != nil {
		fail(err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fail(fmt.Errorf("no_new_privs: %w", err))
	}
	program := unix.SockFprog{Len: uint16(f.Len()), Filter: (*unix.SockFilter)(unsafe.Pointer(&f.Code[0]))}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		uintptr(f.Flags|unix.SECCOMP_FILTER_FLAG_TSYNC), uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		fail(fmt.Errorf("seccomp: %w", errno))
	}
}

func fail(err error) {
	fmt.Println(err)
	os.Exit(1)
}

// TestForeign runs a 32-bit program under filters with and without its calls.
func TestForeign(t *testing.T) {
	if spec := os.Getenv(liveVar); spec != "" {
		preset, program, _ := strings.Cut(spec, ":")
		load(preset)
		fail(unix.Exec(program, []string{program}, nil))
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the machine has no 32-bit calls that sbx lets through")
	}
	program := t.TempDir() + "/hello"
	if err := os.WriteFile(program, hello386(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(program).Run(); err != nil {
		if os.Getenv("SBX_MUST_WORK") == "1" {
			t.Fatal(err)
		}
		t.Skipf("a kernel without 32-bit calls: %v", err)
	}
	for preset, want := range map[string]string{"compat": "hello", "default": "signal: bad system call"} {
		child := exec.Command(os.Args[0], "-test.run=^TestForeign$")
		child.Env = append(os.Environ(), liveVar+"="+preset+":"+program)
		out, err := child.CombinedOutput()
		have := string(out)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			have = strings.TrimSuffix(exit.String(), " (core dumped)")
		}
		if have != want {
			t.Errorf("%s: %s, want %s (%v)", preset, have, want, err)
		}
	}
}

// hello386 is an ELF file of 32-bit x86 that writes hello and exits.
func hello386() []byte {
	const (
		base    = 0x08048000
		headers = 52 + 32
	)
	code := []byte{
		0xb8, 4, 0, 0, 0, // mov eax, 4: write
		0xbb, 1, 0, 0, 0, // mov ebx, 1
		0xb9, 0, 0, 0, 0, // mov ecx, the text
		0xba, 5, 0, 0, 0, // mov edx, 5
		0xcd, 0x80, // int 0x80
		0xb8, 1, 0, 0, 0, // mov eax, 1: exit
		0x31, 0xdb, // xor ebx, ebx
		0xcd, 0x80,
	}
	le := binary.LittleEndian
	le.PutUint32(code[11:], uint32(base+headers+len(code)))
	code = append(code, "hello"...)

	elf := []byte{0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, v := range []uint32{2 | 3<<16, 1, base + headers, 52, 0, 0, 52 | 32<<16, 1, 0} { // EXEC, 386; entry; one program header
		elf = le.AppendUint32(elf, v)
	}
	size := uint32(headers + len(code))
	for _, v := range []uint32{1, 0, base, base, size, size, 5, 0x1000} { // LOAD, R+X
		elf = le.AppendUint32(elf, v)
	}
	return append(elf, code...)
}
