package policy

import (
	"cmp"
	"slices"
)

// What the filter returns to the kernel: linux/seccomp.h.
const (
	actKillProcess uint32 = 0x80000000
	actKillThread  uint32 = 0x00000000
	actTrap        uint32 = 0x00030000
	actErrno       uint32 = 0x00050000
	actTrace       uint32 = 0x7ff00000
	actLog         uint32 = 0x7ffc0000
	actAllow       uint32 = 0x7fff0000

	actMask uint32 = 0xffff0000
)

// strictness orders actions as the kernel does between two filters: the lower wins.
func strictness(action uint32) int32 { return int32(action & actMask) }

// A comparison as in seccomp.h: the argument on the left.
type operator uint8

const (
	opArgNE operator = iota
	opArgLT
	opArgLE
	opArgEQ
	opArgGE
	opArgGT
	opArgMasked // arg & value == value2
)

// A test holds or does not for one argument of a call. All 64 bits count: a test
// of the lower half alone says so with a mask, as the kernel reads an int argument.
type test struct {
	arg           int
	op            operator
	value, value2 uint64
}

// A rule returns its action when all its tests hold.
type rule struct {
	action uint32
	tests  []test
}

// A verdict is all that is said of one call: the first rule that holds decides, else last.
type verdict struct {
	rules []rule
	last  uint32
}

// verdicts are a filter before it is bound to numbers: by the name of the call.
type verdicts struct {
	calls    map[string]verdict
	mentions map[string]bool // every name the profile knows, also where a condition took its rule out
	last     uint32          // for a call of which nothing is said
}

// add says one more rule of a call, as libseccomp takes them: the first
// unconditional one stands alone, and one equal to the default says nothing.
//
// Where two conditional rules hold, libseccomp's answer depends on how it merged
// them. Here the stricter action wins, as between two filters in the kernel.
func (v *verdicts) add(name string, r rule) {
	if r.action == v.last {
		return
	}
	known, ok := v.calls[name]
	if ok && len(known.rules) == 0 {
		return
	}
	if len(r.tests) == 0 {
		v.calls[name] = verdict{last: r.action}
		return
	}
	v.calls[name] = verdict{append(known.rules, r), v.last}
}

// settle orders the rules of each call; add them all before.
func (v *verdicts) settle() {
	for _, said := range v.calls {
		slices.SortStableFunc(said.rules, func(a, b rule) int {
			return cmp.Compare(strictness(a.action), strictness(b.action))
		})
	}
}

// of returns the verdict on a call; "" is a number that no call has.
//
// What is newer than the profile does not exist here: C libraries probe for new
// calls and fall back on ENOSYS only, never on the EPERM that profiles answer.
// runc does the same; the number above which a call is newer is its idea.
func (v *verdicts) of(name string, newer bool) verdict {
	if said, ok := v.calls[name]; ok {
		return said
	}
	if v.permissive() || name != "" && !newer {
		return verdict{last: v.last}
	}
	return verdict{last: actErrno | enosys}
}

// byNumber returns the verdict on each number of a table.
func (v *verdicts) byNumber(table syscallTable) []verdict {
	newest := -1
	for nr, name := range table {
		if v.mentions[name] {
			newest = nr
		}
	}
	all := make([]verdict, len(table))
	for nr, name := range table {
		all[nr] = v.of(name, nr > newest)
	}
	return all
}

func (v *verdicts) permissive() bool { return v.last == actAllow || v.last == actLog }
