package policy

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
)

// The numbers of the system calls, a line each, ordered by number. Written by go generate.
//
//go:embed syscalls
var numbers embed.FS

// A machine is an architecture as GOARCH, the kernel and a profile call it.
type machine struct {
	arch      string
	audit     uint32 // AUDIT_ARCH_* in seccomp_data.arch
	profile   string // SCMP_ARCH_*
	condition string // in a rule's includes and excludes
	secondary string // the 32-bit arch that the same kernel also runs
}

func machineOf(arch string) (machine, error) {
	for _, m := range []machine{
		{"amd64", 0xc000003e, "SCMP_ARCH_X86_64", "amd64", "386"},
		{"386", 0x40000003, "SCMP_ARCH_X86", "x86", ""},
		// The 32-bit calls of arm are not let through, whatever the profile says.
		{"arm64", 0xc00000b7, "SCMP_ARCH_AARCH64", "arm64", ""},
	} {
		if m.arch == arch {
			return m, nil
		}
	}
	return machine{}, fmt.Errorf("no table of system calls for %s", arch)
}

// A syscallTable holds the names of one machine's system calls by number; a
// number without a call is "".
type syscallTable []string

// syscallsOf reads the table when it is asked for: a literal would be built at
// every start of every process.
func syscallsOf(arch string) syscallTable {
	text, err := numbers.ReadFile("syscalls/" + arch + ".txt")
	if err != nil {
		panic("bug: no system calls for " + arch) // machineOf knows all of them
	}
	var table syscallTable
	for line := range strings.Lines(string(text)) {
		number, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		nr, err := strconv.Atoi(number)
		if err != nil {
			panic("bug: table of system calls: " + line)
		}
		for len(table) <= nr {
			table = append(table, "")
		}
		table[nr] = name
	}
	return table
}
