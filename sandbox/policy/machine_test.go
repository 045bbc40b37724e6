package policy

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// A call is what a filter sees: struct seccomp_data.
type call struct {
	arch uint32
	nr   uint32
	args [6]uint64
}

const (
	auditAMD64 = 0xc000003e
	audit386   = 0x40000003
	auditARM64 = 0xc00000b7
)

// run executes a filter as net/core/filter.c would, and returns the action and
// the number of instructions. What the kernel's checker refuses is an error.
func run(code []byte, c call) (action uint32, steps int, err error) {
	data := binary.LittleEndian.AppendUint32(nil, c.nr)
	data = binary.LittleEndian.AppendUint32(data, c.arch)
	data = binary.LittleEndian.AppendUint64(data, 0)
	for _, a := range c.args {
		data = binary.LittleEndian.AppendUint64(data, a)
	}
	if len(code)%8 != 0 || len(code) > 8*maxProgram {
		return 0, 0, fmt.Errorf("%d bytes", len(code))
	}
	var acc uint32
	for pc := 0; pc < len(code)/8; pc++ {
		steps++
		i := code[8*pc:]
		op, k := binary.LittleEndian.Uint16(i), binary.LittleEndian.Uint32(i[4:])
		jump := func(holds bool) {
			if holds {
				pc += int(i[2])
			} else {
				pc += int(i[3])
			}
		}
		switch op {
		case opLoad:
			if k%4 != 0 || int(k) >= len(data) {
				return 0, steps, fmt.Errorf("load of offset %d", k)
			}
			acc = binary.LittleEndian.Uint32(data[k:])
		case opAnd:
			acc &= k
		case opJump:
			pc += int(k)
		case opEQ:
			jump(acc == k)
		case opGT:
			jump(acc > k)
		case opGE:
			jump(acc >= k)
		case opRet:
			return k, steps, nil
		default:
			return 0, steps, fmt.Errorf("instruction %#x", op)
		}
	}
	return 0, steps, fmt.Errorf("the program runs off its end")
}

// outcome is run, in the words of the tests: allow, kill, or the errno's name.
func outcome(t testing.TB, code []byte, c call) string {
	t.Helper()
	action, _, err := run(code, c)
	if err != nil {
		t.Fatal(err)
	}
	if action == actKillProcess {
		return "kill"
	}
	return answer(action)
}

// number is the number of a call by name.
func number(t testing.TB, arch, name string) uint32 {
	t.Helper()
	for nr, known := range syscallsOf(arch) {
		if known == name {
			return uint32(nr)
		}
	}
	t.Fatalf("%s has no call %s", arch, name)
	return 0
}
