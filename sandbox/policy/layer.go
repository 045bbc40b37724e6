package policy

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	eperm           = uint32(unix.EPERM)
	einval          = uint32(unix.EINVAL)
	enosys          = uint32(unix.ENOSYS)
	eprotonosupport = uint32(unix.EPROTONOSUPPORT)
	eafnosupport    = uint32(unix.EAFNOSUPPORT)
)

// A layer is what sbx says beyond Docker's profile: for the calls it names it
// replaces what was said before. A preset lists the layers it is made of.
type layer struct {
	name  string
	why   string
	calls []override
}

type override struct {
	names   []string
	verdict verdict
	unless  uint64 // granting any of these capabilities takes the override out
}

func (l layer) apply(v *verdicts, caps uint64) {
	for _, o := range l.calls {
		if o.unless&caps != 0 {
			continue
		}
		for _, name := range o.names {
			v.calls[name] = o.verdict
			v.mentions[name] = true
		}
	}
}

func deny(errno uint32) verdict { return verdict{last: actErrno | errno} }

func allow() verdict { return verdict{last: actAllow} }

// int32Arg tests an argument of type int: the kernel drops the upper half, and a
// comparison of all 64 bits would let 0x100005412 through as something else (CVE-2019-10063).
func int32Arg(arg int, value uint32) test { return test{arg, opArgMasked, 0xffffffff, uint64(value)} }

func layersOf(names []string, caps uint64) ([]layer, error) {
	var layers []layer
	for _, name := range names {
		l, err := findLayer(name, caps)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// relevantCaps are those on which Docker's profile or a layer depends; a test holds it to that.
const relevantCaps = 1<<2 | // DAC_READ_SEARCH
	capNetAdmin | capNetRaw |
	1<<16 | 1<<17 | 1<<18 | capSysPtrace | 1<<20 | 1<<21 | 1<<22 | 1<<23 | // SYS_MODULE to SYS_NICE
	1<<25 | 1<<26 | // SYS_TIME, SYS_TTY_CONFIG
	1<<34 | // SYSLOG
	1<<38 | 1<<39 // PERFMON, BPF

func findLayer(name string, caps uint64) (layer, error) {
	switch name {
	case "tty":
		return layer{name, "no typing into a terminal (TIOCSTI, TIOCLINUX), no taking the console", []override{
			{names: []string{"ioctl"}, verdict: verdict{last: actAllow, rules: []rule{
				{actErrno | eperm, []test{int32Arg(1, unix.TIOCSTI)}},
				{actErrno | eperm, []test{int32Arg(1, unix.TIOCLINUX)}},
				{actErrno | eperm, []test{int32Arg(1, unix.TIOCCONS)}},
			}}},
		}}, nil

	case "keyring":
		// Keys are not in any namespace: a process of the user's can link the keyrings of the
		// session that sbx was called from. Runtimes that want a session keyring go on after ENOSYS.
		return layer{name, "no kernel keys: they are shared by all of a user's processes", []override{
			{names: []string{"keyctl", "add_key", "request_key"}, verdict: deny(enosys)},
		}}, nil

	case "io_uring":
		// Programs fall back on ENOSYS only.
		return layer{name, "no io_uring: its operations pass by every filter", []override{
			{names: []string{"io_uring_setup", "io_uring_enter", "io_uring_register"}, verdict: deny(enosys)},
		}}, nil

	case "sockets":
		return layer{name, "sockets: unix, inet, inet6, netlink route; packet with NET_RAW, more netlink with NET_ADMIN",
			socketCalls(socketFamilies(anyInet(), caps))}, nil

	case "sockets-inet":
		// SCTP, DCCP, L2TP, SMC and the like are modules that an unprivileged socket call loads.
		return layer{name, "sockets: of inet and inet6 only TCP, UDP, ping and MPTCP",
			socketCalls(socketFamilies(plainInet(), caps))}, nil

	case "sockets-nested":
		// An inner sbx speaks AF_PACKET with its veth, podman's bridge NETFILTER, each in namespaces of its own.
		return layer{name, "sockets: also packet and netlink netfilter, for the networks of inner sandboxes",
			socketCalls(socketFamilies(anyInet(), caps|capNetRaw|capNetAdmin))}, nil

	case "sockets-compat":
		return layer{name, "sockets: all but alg, vsock, rxrpc, key, netlink xfrm and audit", socketCalls(verdict{
			last: actAllow, rules: []rule{
				{actErrno | eafnosupport, family(unix.AF_ALG)},   // CVE-2026-31431
				{actErrno | eafnosupport, family(unix.AF_VSOCK)}, // reaches the hypervisor, whatever the network namespace
				{actErrno | eafnosupport, family(unix.AF_RXRPC)}, // CVE-2026-43500
				{actErrno | eafnosupport, family(unix.AF_KEY)},
				{actErrno | eprotonosupport, netlink(unix.NETLINK_XFRM)}, // CVE-2026-43284
				{actErrno | einval, netlink(unix.NETLINK_AUDIT)},
			},
		})}, nil

	case "nested":
		return layer{name, "user namespaces inside, and what sbx, bwrap and podman do in them", []override{
			{names: []string{
				"clone", "clone3", "unshare", "setns", "sethostname", "setdomainname",
				"mount", "umount", "umount2", "pivot_root", "chroot",
				"fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "open_tree_attr", "mount_setattr",
			}, verdict: allow()},
		}}, nil

	case "podman":
		return layer{name, "calls that Podman's own profile allows", []override{
			{names: []string{
				"clone", "clone3", "unshare", "setns",
				"mount", "umount", "umount2", "pivot_root",
				"fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr",
				"get_mempolicy", "mbind", "set_mempolicy", "pidfd_getfd", "reboot", "syslog", "timerfd",
				"readdir", "sigaction", "signal", "sigpending", "sigsuspend", // of old 32-bit programs
			}, verdict: allow()},
		}}, nil

	case "inspection":
		return layer{name, "no looking into other processes (ptrace, process_vm, pidfd_getfd, kcmp), unless with SYS_PTRACE", []override{
			{names: []string{"ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"},
				verdict: deny(eperm), unless: capSysPtrace},
		}}, nil

	case "rare":
		// Each has been a way to corrupt or to hide memory, and few programs need it.
		// ipc is the door to System V on 32-bit x86.
		return layer{name, "no memfd_secret, personality, name_to_handle_at, vmsplice, System V ipc", []override{
			{names: []string{"personality", "name_to_handle_at", "vmsplice"}, verdict: deny(eperm)},
			{names: []string{
				"memfd_secret", "ipc", "msgctl", "msgget", "msgrcv", "msgsnd",
				"semctl", "semget", "semop", "semtimedop", "semtimedop_time64",
				"shmat", "shmctl", "shmdt", "shmget",
			}, verdict: deny(enosys)},
		}}, nil
	}
	return layer{}, fmt.Errorf("bug: no seccomp layer %q", name)
}

// socketCalls applies a verdict on socket. Pairs are made of unix sockets alone
// (socketpair(2)), but asking for another family runs that family's code.
//
// On 32-bit x86 socketcall takes its arguments from memory, where no filter sees them.
func socketCalls(socket verdict) []override {
	return []override{
		{names: []string{"socket"}, verdict: socket},
		{names: []string{"socketpair"}, verdict: verdict{
			rules: []rule{{actAllow, family(unix.AF_UNIX)}},
			last:  actErrno | eafnosupport,
		}},
	}
}

// socketFamilies lets through the families that programs use, and answers for the others
// what a kernel without them would: AF_ALG, AF_VSOCK, AF_RXRPC, AF_KEY, AF_TIPC, AF_XDP,
// AF_BLUETOOTH, AF_CAN, AF_SMC and all others are code that any process may load and call.
func socketFamilies(inet []rule, caps uint64) verdict {
	rules := append([]rule{{actAllow, family(unix.AF_UNIX)}}, inet...)
	rules = append(rules,
		rule{actAllow, netlink(unix.NETLINK_ROUTE)},
		rule{actErrno | einval, netlink(unix.NETLINK_AUDIT)}) // PAM and sudo take this for a kernel without audit
	if caps&capNetAdmin != 0 {
		rules = append(rules,
			rule{actAllow, netlink(unix.NETLINK_NETFILTER)}, // iptables, nft
			rule{actAllow, netlink(unix.NETLINK_GENERIC)})   // ip, wg
	}
	if caps&capNetRaw != 0 {
		rules = append(rules, rule{actAllow, family(unix.AF_PACKET)})
	}
	rules = append(rules, rule{actErrno | eprotonosupport, family(unix.AF_NETLINK)})
	return verdict{rules, actErrno | eafnosupport}
}

// anyInet lets through every protocol but IPPROTO_SMC (Linux 6.11), which is AF_SMC by another name.
func anyInet() []rule {
	const smc = 256
	var rules []rule
	for _, inet := range []uint32{unix.AF_INET, unix.AF_INET6} {
		rules = append(rules,
			rule{actErrno | eprotonosupport, []test{int32Arg(0, inet), int32Arg(2, smc)}},
			rule{actAllow, family(inet)})
	}
	return rules
}

// plainInet lets through the protocols that programs use.
func plainInet() []rule {
	var rules []rule
	for _, inet := range []uint32{unix.AF_INET, unix.AF_INET6} {
		for _, protocol := range []uint32{
			unix.IPPROTO_IP, unix.IPPROTO_ICMP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMPV6, unix.IPPROTO_MPTCP,
		} {
			rules = append(rules, rule{actAllow, []test{int32Arg(0, inet), int32Arg(2, protocol)}})
		}
		rules = append(rules, rule{actErrno | eprotonosupport, family(inet)})
	}
	return rules
}

func family(number uint32) []test { return []test{int32Arg(0, number)} }

func netlink(protocol uint32) []test {
	return []test{int32Arg(0, unix.AF_NETLINK), int32Arg(2, protocol)}
}
