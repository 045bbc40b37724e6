package policy

import (
	"errors"
	"fmt"
	"strings"
)

// capNames are the capabilities of Linux by number, up to CAP_LAST_CAP of 5.9
// and later (linux/capability.h).
const capNames = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL " +
	"CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE " +
	"CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE " +
	"CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT " +
	"CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE " +
	"CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG " +
	"CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF " +
	"CAP_CHECKPOINT_RESTORE"

const (
	capNetAdmin  = 1 << 12
	capNetRaw    = 1 << 13
	capSysPtrace = 1 << 19

	allCaps = 1<<41 - 1
)

// CapNames lists the capabilities by number, as in CAP_CHOWN.
func CapNames() []string { return strings.Fields(capNames) }

// NamesOf lists the capabilities of a mask, lowest number first.
func NamesOf(mask uint64) []string {
	granted := []string{}
	for i, name := range CapNames() {
		if mask>>i&1 == 1 {
			granted = append(granted, name)
		}
	}
	return granted
}

// Caps returns what a preset grants after --cap-add and --cap-drop, by name and
// as a mask: Podman's rules. The order of the flags does not matter; one name in
// both is an error; dropping ALL leaves what was added, adding ALL leaves out
// what was dropped. A kernel older than 5.9 does not know all of them.
func Caps(p Preset, add, drop []string) ([]string, uint64, error) {
	adds, err := capSet(add)
	if err != nil {
		return nil, 0, fmt.Errorf("--cap-add: %w", err)
	}
	drops, err := capSet(drop)
	if err != nil {
		return nil, 0, fmt.Errorf("--cap-drop: %w", err)
	}
	mask := p.capMask()
	switch {
	case adds.all && drops.all:
		return nil, 0, errors.New("--cap-add and --cap-drop: ALL cannot be both added and dropped")
	case drops.all:
		mask = adds.mask
	case adds.all:
		mask = allCaps &^ drops.mask
	case adds.mask&drops.mask != 0:
		return nil, 0, fmt.Errorf("--cap-add and --cap-drop: %s cannot be both added and dropped",
			strings.Join(NamesOf(adds.mask&drops.mask), ", "))
	default:
		mask = mask&^drops.mask | adds.mask
	}
	return NamesOf(mask), mask, nil
}

type capFlags struct {
	mask uint64
	all  bool
}

func capSet(names []string) (capFlags, error) {
	var set capFlags
	for _, name := range names {
		name = strings.ToUpper(name)
		if name == "ALL" {
			set.all = true
			continue
		}
		bit := capMask(name)
		if bit == 0 {
			return set, fmt.Errorf("unknown capability %s", name)
		}
		set.mask |= bit
	}
	return set, nil
}

// capMask is the bit of one capability, with or without CAP_; 0 for a name that is none.
func capMask(name string) uint64 {
	name = strings.TrimPrefix(name, "CAP_")
	bit := uint64(1)
	for known := range strings.FieldsSeq(capNames) {
		if known[len("CAP_"):] == name {
			return bit
		}
		bit <<= 1
	}
	return 0
}
