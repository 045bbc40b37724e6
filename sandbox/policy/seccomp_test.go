package policy

import (
	"math"
	"math/bits"
	"strings"
	"testing"
)

// filterOf compiles the filter of a combination for any machine.
func filterOf(t testing.TB, c combination, arch string) []byte {
	t.Helper()
	p, err := Find(c.preset)
	if err != nil {
		t.Fatal(err)
	}
	p = p.WithNested(c.nested)
	caps := p.capMask()
	if c.noCaps {
		caps = 0
	}
	f, err := compilePreset(p, Options{Arch: arch, Caps: caps, Compat32: c.compat32})
	if err != nil {
		t.Fatal(err)
	}
	return f.Code
}

// TestPresets asks each preset's filter about one call a line.
func TestPresets(t *testing.T) {
	presets := []combination{
		{preset: "default"},
		{preset: "default", nested: true},
		{preset: "untrusted"},
		{preset: "compat", nested: true},
	}
	type args = [6]uint64
	const (
		newuser = 0x10000000
		thread  = 0x003d0f00 // what pthread_create asks clone for
		high    = 1 << 32    // what the kernel does not see of an int
	)
	for _, test := range []struct {
		call string
		args args
		want string // of default, default nested, untrusted, compat
	}{
		{"read", args{}, "allow allow allow allow"},
		{"execve", args{}, "allow allow allow allow"},
		{"clone", args{thread}, "allow allow allow allow"},
		{"clone", args{newuser | 17}, "EPERM allow EPERM allow"},
		{"clone", args{0x02000000}, "EPERM allow EPERM allow"}, // CLONE_NEWCGROUP
		{"clone3", args{}, "ENOSYS allow ENOSYS allow"},
		{"unshare", args{newuser}, "EPERM allow EPERM allow"},
		{"setns", args{}, "EPERM allow EPERM allow"},
		{"mount", args{}, "EPERM allow EPERM allow"},
		{"umount2", args{}, "EPERM allow EPERM allow"},
		{"pivot_root", args{}, "EPERM allow EPERM allow"},
		{"fsopen", args{}, "EPERM allow EPERM allow"}, // CVE-2022-0185
		{"fsconfig", args{}, "EPERM allow EPERM allow"},
		{"move_mount", args{}, "EPERM allow EPERM allow"},
		{"open_tree", args{}, "EPERM allow EPERM allow"},
		{"mount_setattr", args{}, "EPERM allow EPERM allow"},
		{"open_tree_attr", args{}, "ENOSYS allow ENOSYS allow"},
		{"sethostname", args{}, "EPERM allow EPERM allow"},
		{"chroot", args{}, "allow allow EPERM allow"},

		{"keyctl", args{}, "ENOSYS ENOSYS ENOSYS ENOSYS"},
		{"add_key", args{}, "ENOSYS ENOSYS ENOSYS ENOSYS"},
		{"request_key", args{}, "ENOSYS ENOSYS ENOSYS ENOSYS"},
		{"io_uring_setup", args{}, "ENOSYS ENOSYS ENOSYS ENOSYS"},
		{"io_uring_enter", args{}, "ENOSYS ENOSYS ENOSYS ENOSYS"},
		{"bpf", args{}, "EPERM EPERM EPERM EPERM"},
		{"perf_event_open", args{}, "EPERM EPERM EPERM EPERM"},
		{"userfaultfd", args{}, "EPERM EPERM EPERM EPERM"},
		{"kexec_load", args{}, "EPERM EPERM EPERM EPERM"},
		{"open_by_handle_at", args{}, "EPERM EPERM EPERM EPERM"},
		{"clock_settime", args{}, "EPERM EPERM EPERM EPERM"},

		{"ptrace", args{}, "allow allow EPERM allow"},
		{"process_vm_readv", args{}, "allow allow EPERM allow"},
		{"process_vm_writev", args{}, "allow allow EPERM allow"},
		{"pidfd_getfd", args{}, "EPERM EPERM EPERM allow"},
		{"kcmp", args{}, "EPERM EPERM EPERM EPERM"},
		{"memfd_secret", args{}, "allow allow ENOSYS allow"},
		{"name_to_handle_at", args{}, "allow allow EPERM allow"},
		{"vmsplice", args{}, "allow allow EPERM allow"},
		{"shmget", args{}, "allow allow ENOSYS allow"},
		{"msgsnd", args{}, "allow allow ENOSYS allow"},
		{"semop", args{}, "allow allow ENOSYS allow"},
		{"personality", args{0xffffffff}, "allow allow EPERM allow"},
		{"personality", args{0x40000}, "EPERM EPERM EPERM EPERM"}, // ADDR_NO_RANDOMIZE

		{"ioctl", args{1, 0x5401}, "allow allow allow allow"}, // TCGETS
		{"ioctl", args{1, 0x5412}, "EPERM EPERM EPERM EPERM"}, // TIOCSTI
		{"ioctl", args{1, high | 0x5412}, "EPERM EPERM EPERM EPERM"},
		{"ioctl", args{1, 0xdeadbeef<<32 | 0x541c}, "EPERM EPERM EPERM EPERM"}, // TIOCLINUX
		{"ioctl", args{1, 0x541d}, "EPERM EPERM EPERM EPERM"},                  // TIOCCONS

		{"socket", args{1, 1, 0}, "allow allow allow allow"},                                          // unix
		{"socket", args{high | 1, 1, 0}, "allow allow allow allow"},                                   // the same, to the kernel
		{"socket", args{2, 1, 0}, "allow allow allow allow"},                                          // TCP
		{"socket", args{10, 2, 17}, "allow allow allow allow"},                                        // UDP
		{"socket", args{2, 2, 1}, "allow allow allow allow"},                                          // ping
		{"socket", args{2, 1, 262}, "allow allow allow allow"},                                        // MPTCP
		{"socket", args{2, 1, 132}, "allow allow EPROTONOSUPPORT allow"},                              // SCTP
		{"socket", args{2, 1, 256}, "EPROTONOSUPPORT EPROTONOSUPPORT EPROTONOSUPPORT allow"},          // SMC
		{"socket", args{10, 1, high | 256}, "EPROTONOSUPPORT EPROTONOSUPPORT EPROTONOSUPPORT allow"},  // SMC
		{"socket", args{16, 3, 0}, "allow allow allow allow"},                                         // ROUTE
		{"socket", args{16, 3, 9}, "EINVAL EINVAL EINVAL EINVAL"},                                     // AUDIT
		{"socket", args{16, 3, 6}, "EPROTONOSUPPORT EPROTONOSUPPORT EPROTONOSUPPORT EPROTONOSUPPORT"}, // XFRM
		{"socket", args{16, 3, 12}, "EPROTONOSUPPORT allow EPROTONOSUPPORT allow"},                    // NETFILTER
		{"socket", args{16, 3, 15}, "EPROTONOSUPPORT EPROTONOSUPPORT EPROTONOSUPPORT allow"},          // UEVENT
		{"socket", args{16, 3, 16}, "EPROTONOSUPPORT allow EPROTONOSUPPORT allow"},                    // GENERIC
		{"socket", args{17, 3, 0}, "EAFNOSUPPORT allow EAFNOSUPPORT allow"},                           // PACKET
		{"socket", args{38, 5, 0}, "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT"},             // ALG
		{"socket", args{high | 38, 5, 0}, "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT"},      // docker's own rules let this one through
		{"socket", args{40, 1, 0}, "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT"},             // VSOCK
		{"socket", args{33, 2, 0}, "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT"},             // RXRPC
		{"socket", args{15, 3, 2}, "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT"},             // KEY
		{"socket", args{44, 3, 0}, "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT allow"},                    // XDP
		{"socket", args{30, 1, 0}, "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT allow"},                    // TIPC
		{"socket", args{math.MaxUint64, 1, 0}, "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT allow"},        // -1
		{"socketpair", args{1, 1, 0}, "allow allow allow allow"},                                      // unix
		{"socketpair", args{38, 1, 0}, "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT"},         // runs AF_ALG's code too
		{"socketpair", args{high | 30, 1, 0}, "EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT"},  // TIPC
	} {
		for i, want := range strings.Fields(test.want) {
			for _, m := range []struct {
				arch  string
				audit uint32
			}{{"amd64", auditAMD64}, {"arm64", auditARM64}} {
				code := filterOf(t, presets[i], m.arch)
				got := outcome(t, code, call{m.audit, number(t, m.arch, test.call), test.args})
				if got != want {
					t.Errorf("%s %s: %s%#x: %s, want %s", presets[i].name(), m.arch, test.call, test.args, got, want)
				}
			}
		}
	}
}

// TestArchitectures asks about ways round the table of numbers.
func TestArchitectures(t *testing.T) {
	for _, test := range []struct {
		combination combination
		arch        string
		call        call
		want        string
	}{
		{combination{preset: "default"}, "amd64", call{arch: audit386, nr: 20}, "kill"}, // getpid by int 0x80
		{combination{preset: "default"}, "amd64", call{arch: auditARM64, nr: 0}, "kill"},
		{combination{preset: "default"}, "amd64", call{arch: auditAMD64, nr: x32Bit | 39}, "ENOSYS"},
		{combination{preset: "compat", nested: true, compat32: true}, "amd64", call{arch: auditAMD64, nr: x32Bit | 39}, "ENOSYS"},
		{combination{preset: "default"}, "amd64", call{arch: auditAMD64, nr: 1000}, "ENOSYS"},
		{combination{preset: "default"}, "amd64", call{arch: auditAMD64, nr: 400}, "ENOSYS"}, // a hole in the table
		{combination{preset: "default"}, "amd64", call{arch: auditAMD64, nr: math.MaxUint32}, "ENOSYS"},
		{combination{preset: "default"}, "amd64", call{arch: auditAMD64, nr: 469}, "ENOSYS"}, // file_setattr, newer than the profile
		{combination{preset: "default"}, "arm64", call{arch: auditARM64, nr: 1000}, "ENOSYS"},
		{combination{preset: "default"}, "arm64", call{arch: 0x40000028, nr: 20}, "kill"}, // arm

		{combination{preset: "default", compat32: true}, "amd64", call{arch: audit386, nr: 20}, "allow"},
		{combination{preset: "default", compat32: true}, "amd64", call{arch: audit386, nr: 310}, "EPERM"},                              // unshare
		{combination{preset: "default", compat32: true}, "amd64", call{arch: audit386, nr: 120, args: [6]uint64{0x10000000}}, "EPERM"}, // clone
		{combination{preset: "default", compat32: true}, "amd64", call{arch: audit386, nr: 54, args: [6]uint64{0, 0x5412}}, "EPERM"},   // ioctl
		{combination{preset: "default", compat32: true}, "amd64", call{arch: audit386, nr: 359, args: [6]uint64{38}}, "EAFNOSUPPORT"},  // socket
		{combination{preset: "default", compat32: true}, "amd64", call{arch: audit386, nr: 102}, "allow"},                              // socketcall
		{combination{preset: "default", compat32: true}, "amd64", call{arch: audit386, nr: x32Bit | 20}, "ENOSYS"},
		{combination{preset: "default", compat32: true}, "amd64", call{arch: auditARM64, nr: 20}, "kill"},
		{combination{preset: "untrusted", compat32: true}, "amd64", call{arch: audit386, nr: 117}, "ENOSYS"},           // ipc
		{combination{preset: "untrusted", compat32: true}, "amd64", call{arch: audit386, nr: 26}, "EPERM"},             // ptrace
		{combination{preset: "compat", nested: true, compat32: true}, "amd64", call{arch: audit386, nr: 67}, "allow"},  // sigaction
		{combination{preset: "compat", nested: true, compat32: true}, "amd64", call{arch: audit386, nr: 310}, "allow"}, // unshare
	} {
		if got := outcome(t, filterOf(t, test.combination, test.arch), test.call); got != test.want {
			t.Errorf("%s %s: %#x: %s, want %s", test.combination.name(), test.arch, test.call, got, test.want)
		}
	}
}

// TestCapabilities: what a preset's filter allows follows the capabilities.
func TestCapabilities(t *testing.T) {
	for _, test := range []struct {
		preset, add, drop string
		call              string
		args              [6]uint64
		want              string
	}{
		{"default", "SYS_ADMIN", "", "mount", [6]uint64{}, "allow"},
		{"default", "SYS_ADMIN", "", "clone", [6]uint64{0x10000000}, "allow"},
		{"default", "NET_RAW", "", "socket", [6]uint64{17}, "allow"},
		{"default", "NET_ADMIN", "", "socket", [6]uint64{16, 3, 12}, "allow"},
		{"default", "NET_ADMIN", "", "socket", [6]uint64{16, 3, 6}, "EPROTONOSUPPORT"},
		{"default", "", "ALL", "chroot", [6]uint64{}, "EPERM"},
		{"untrusted", "SYS_PTRACE", "", "ptrace", [6]uint64{}, "allow"},
		{"untrusted", "SYS_PTRACE", "", "vmsplice", [6]uint64{}, "EPERM"},
		{"default", "ALL", "", "io_uring_setup", [6]uint64{}, "ENOSYS"},
		{"default", "SYS_TIME", "", "clock_settime", [6]uint64{}, "allow"},
	} {
		p, err := Find(test.preset)
		if err != nil {
			t.Fatal(err)
		}
		_, caps, err := Caps(p, strings.Fields(test.add), strings.Fields(test.drop))
		if err != nil {
			t.Fatal(err)
		}
		f, err := compilePreset(p, Options{Arch: "amd64", Caps: caps})
		if err != nil {
			t.Fatal(err)
		}
		got := outcome(t, f.Code, call{auditAMD64, number(t, "amd64", test.call), test.args})
		if got != test.want {
			t.Errorf("%s +%s -%s: %s%#x: %s, want %s", test.preset, test.add, test.drop, test.call, test.args, got, test.want)
		}
	}
}

// TestCompiled: what Seccomp takes from bpf/ is what it would have compiled, and
// it takes nothing from there for a policy that is another.
func TestCompiled(t *testing.T) {
	for _, p := range Presets() {
		for caps := range uint64(41) {
			for _, mask := range []uint64{0, p.capMask(), p.capMask() ^ 1<<caps} {
				for _, nested := range []bool{false, true} {
					q := p.WithNested(nested)
					name, ok := compiledName("amd64", q, mask, false)
					if !ok {
						continue
					}
					want, err := compilePreset(q, Options{Arch: "amd64", Caps: mask})
					if err != nil {
						t.Fatal(err)
					}
					have, err := compiled.ReadFile("bpf/amd64/" + name)
					if err == nil && string(have) != string(want.Code) {
						t.Fatalf("%s is not the filter of %s nested=%t caps=%x", name, q.Name, nested, mask)
					}
				}
			}
		}
	}
	p, _ := Find("default")
	p.Seccomp = p.Seccomp[:1]
	if name, ok := compiledName("amd64", p, p.capMask(), false); ok {
		t.Errorf("a changed preset takes %s", name)
	}
	p.Seccomp = nil
	if f, err := Seccomp(p, 0, false); err != nil || f.Len() != 0 {
		t.Errorf("unconfined: %d instructions, %v", f.Len(), err)
	}
}

// TestSteps: an allowed call costs two loads, the machine, the search, a return
// and, at most, one long jump.
func TestSteps(t *testing.T) {
	for _, c := range combinations("amd64") {
		code := filterOf(t, c, "amd64")
		p, _ := Find(c.preset)
		p = p.WithNested(c.nested)
		base, layers, err := partsOf(p, p.capMask())
		if err != nil {
			t.Fatal(err)
		}
		m, _ := machineOf("amd64")
		v, err := base.verdicts(m, Options{Arch: "amd64", Caps: p.capMask()}, layers)
		if err != nil {
			t.Fatal(err)
		}
		most := 5 + bits.Len(uint(len(rangesOf(v, m))))
		for nr, name := range syscallsOf("amd64") {
			if len(v.calls[name].rules) > 0 {
				continue
			}
			action, steps, err := run(code, call{arch: auditAMD64, nr: uint32(nr)})
			if err != nil {
				t.Fatal(err)
			}
			if action == actAllow && steps > most {
				t.Errorf("%s: %s: %d instructions, want at most %d", c.name(), name, steps, most)
			}
		}
		if n := len(code) / 8; n > 500 {
			t.Errorf("%s: %d instructions", c.name(), n)
		}
	}
}

// BenchmarkSeccomp: ready is taken from bpf/, compiled is what --cap-add costs.
func BenchmarkSeccomp(b *testing.B) {
	p, _ := Find("default")
	b.Run("ready", func(b *testing.B) {
		for b.Loop() {
			if _, err := Seccomp(p, p.capMask(), false); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compiled", func(b *testing.B) {
		for b.Loop() {
			if _, err := Seccomp(p, p.capMask()|capNetAdmin, false); err != nil {
				b.Fatal(err)
			}
		}
	})
}
