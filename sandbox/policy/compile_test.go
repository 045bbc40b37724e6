package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/moby/profiles/seccomp"
)

// naive is a profile read the slow way: no ranges, no program, one pass over the
// JSON's own words for each call.
type naive struct {
	profile seccomp.Seccomp
	arch    string
	caps    []string
	kernel  [2]uint64
}

func (n naive) answer(name string, args [6]uint64, newer bool) uint32 {
	byDefault := naiveAction(string(n.profile.DefaultAction), n.profile.DefaultErrnoRet)
	said := false
	strictest := uint32(math.MaxUint32)
	for _, c := range n.profile.Syscalls {
		if !slices.Contains(c.Names, name) || !n.applies(c) {
			continue
		}
		action := naiveAction(string(c.Action), c.ErrnoRet)
		if action == byDefault {
			continue
		}
		if len(c.Args) == 0 {
			return action
		}
		said = true
		if n.holds(c, args) && (strictest == math.MaxUint32 || strictness(action) < strictness(strictest)) {
			strictest = action
		}
	}
	switch {
	case strictest != math.MaxUint32:
		return strictest
	case !said && (newer || name == "") && byDefault != actAllow && byDefault != actLog:
		return actErrno | enosys
	}
	return byDefault
}

// unconditional entries win wherever they stand; answer meets them in order, so move them first.
func (n *naive) sort() {
	slices.SortStableFunc(n.profile.Syscalls, func(a, b *seccomp.Syscall) int { return min(1, len(a.Args)) - min(1, len(b.Args)) })
}

func (n naive) applies(c *seccomp.Syscall) bool {
	atLeast := func(v *seccomp.KernelVersion) bool {
		return n.kernel[0] > v.Kernel || n.kernel[0] == v.Kernel && n.kernel[1] >= v.Major
	}
	if out := c.Excludes; out != nil {
		if slices.Contains(out.Arches, n.arch) || out.MinKernel != nil && atLeast(out.MinKernel) {
			return false
		}
		for _, name := range out.Caps {
			if slices.Contains(n.caps, name) {
				return false
			}
		}
	}
	if in := c.Includes; in != nil {
		if len(in.Arches) > 0 && !slices.Contains(in.Arches, n.arch) || in.MinKernel != nil && !atLeast(in.MinKernel) {
			return false
		}
		for _, name := range in.Caps {
			if !slices.Contains(n.caps, name) {
				return false
			}
		}
	}
	return true
}

func (n naive) holds(c *seccomp.Syscall, args [6]uint64) bool {
	times := map[uint]int{}
	and, or := true, false
	again := false
	for _, a := range c.Args {
		times[a.Index]++
		again = again || times[a.Index] > 1
		arg := args[a.Index]
		holds := map[string]bool{
			"SCMP_CMP_NE": arg != a.Value, "SCMP_CMP_EQ": arg == a.Value,
			"SCMP_CMP_LT": arg < a.Value, "SCMP_CMP_LE": arg <= a.Value,
			"SCMP_CMP_GT": arg > a.Value, "SCMP_CMP_GE": arg >= a.Value,
			"SCMP_CMP_MASKED_EQ": arg&a.Value == a.ValueTwo,
		}[string(a.Op)]
		and, or = and && holds, or || holds
	}
	if again {
		return or
	}
	return and
}

func naiveAction(name string, errnoRet *uint) uint32 {
	errno := uint32(1)
	if errnoRet != nil {
		errno = uint32(*errnoRet)
	}
	return map[string]uint32{
		"SCMP_ACT_KILL": actKillThread, "SCMP_ACT_KILL_PROCESS": actKillProcess, "SCMP_ACT_TRAP": actTrap,
		"SCMP_ACT_ERRNO": actErrno | errno, "SCMP_ACT_TRACE": actTrace | errno,
		"SCMP_ACT_LOG": actLog, "SCMP_ACT_ALLOW": actAllow,
	}[name]
}

// sameAsNaive compares a compiled profile with the naive reading of it, over all
// calls of a machine and arguments about every number that the profile mentions.
func sameAsNaive(t *testing.T, text []byte, o Options) (instructions int) {
	t.Helper()
	f, err := Compile(text, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	n := naive{arch: o.Arch, caps: NamesOf(o.Caps), kernel: [2]uint64{uint64(o.Kernel.Major), uint64(o.Kernel.Minor)}}
	if err := json.Unmarshal(text, &n.profile); err != nil {
		t.Fatal(err)
	}
	n.sort()
	machines := []struct {
		arch  string
		audit uint32
	}{{"amd64", auditAMD64}, {"386", audit386}}
	if o.Arch == "arm64" {
		machines = machines[:1]
		machines[0].arch, machines[0].audit = "arm64", auditARM64
	}
	if !o.Compat32 {
		machines = machines[:1]
	}
	for _, m := range machines {
		table := syscallsOf(m.arch)
		newest := -1
		for nr, name := range table {
			for _, c := range n.profile.Syscalls {
				if name != "" && slices.Contains(c.Names, name) {
					newest = nr
				}
			}
		}
		for nr := range len(table) + 20 {
			name := ""
			if nr < len(table) {
				name = table[nr]
			}
			for _, args := range n.interesting(name) {
				got, _, err := run(f.Code, call{m.audit, uint32(nr), args})
				want := n.answer(name, args, nr > newest)
				if err != nil || got != want {
					t.Fatalf("%s %s%#x: %#x, want %#x (%v)\n%.2000s", m.arch, name, args, got, want, err, text)
				}
			}
		}
	}
	return f.Len()
}

func (n naive) interesting(name string) [][6]uint64 {
	all := [][6]uint64{{}, {math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64}}
	for _, c := range n.profile.Syscalls {
		if !slices.Contains(c.Names, name) {
			continue
		}
		for _, base := range slices.Clone(all) {
			for _, a := range c.Args {
				for _, v := range []uint64{a.Value, a.Value - 1, a.Value + 1, a.Value + 1<<32, a.Value - 1<<32, a.Value << 32, a.ValueTwo, a.Value & 0xffffffff} {
					args := base
					args[a.Index] = v
					all = append(all, args)
				}
				base[a.Index] = a.Value
				if a.Op == "SCMP_CMP_MASKED_EQ" {
					base[a.Index] = a.ValueTwo | ^a.Value
				}
			}
			all = append(all, base)
			if len(all) > 300 {
				return all
			}
		}
	}
	return all
}

func TestDocker(t *testing.T) {
	for _, o := range []Options{
		{Arch: "amd64"},
		{Arch: "amd64", Caps: allCaps, Compat32: true},
		{Arch: "amd64", Caps: 0x800405fb, Compat32: true},
		{Arch: "arm64", Caps: 1 << 21},
	} {
		for _, o.Kernel = range []Kernel{{4, 7}, {4, 8}, {6, 18}} {
			n := sameAsNaive(t, docker, o)
			t.Logf("%s caps=%#x compat32=%t: %d instructions", o.Arch, o.Caps, o.Compat32, n)
		}
	}
}

// TestRandomProfiles makes profiles that nobody would write, some of thousands
// of instructions, where jumps are long.
func TestRandomProfiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	longest := 0
	for range 150 {
		o := Options{Arch: []string{"amd64", "arm64"}[r.IntN(2)], Kernel: Kernel{6, 1}, Compat32: r.IntN(2) == 0}
		longest = max(longest, sameAsNaive(t, randomProfile(t, r), o))
	}
	if longest < 1500 {
		t.Errorf("the longest program has %d instructions: jumps were not tried", longest)
	}
}

func randomProfile(t *testing.T, r *rand.Rand) []byte {
	t.Helper()
	names := slices.DeleteFunc(syscallsOf("amd64"), func(name string) bool { return name == "" })
	one := func(words ...string) string { return words[r.IntN(len(words))] }
	action := func() string {
		return one("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_TRACE", "SCMP_ACT_LOG")
	}
	value := func() uint64 {
		return []uint64{0, 1, 0xffffffff, 1 << 32, 1<<32 | 5, 0x7e020000, math.MaxUint64, r.Uint64() >> r.IntN(64)}[r.IntN(8)]
	}
	p := profile{DefaultAction: action(), ArchMap: []profileArch{{"SCMP_ARCH_X86_64", []string{"SCMP_ARCH_X86"}}}}
	for range r.IntN(60) {
		c := profileCall{Action: action()}
		errno := uint32(r.IntN(4))
		if c.ErrnoRet = &errno; errno == 0 {
			c.ErrnoRet = nil
		}
		for range 1 + r.IntN(6) {
			c.Names = append(c.Names, names[r.IntN(len(names))], "no_such_call")
		}
		for range r.IntN(4) {
			c.Args = append(c.Args, profileArg{uint32(r.IntN(6)), value(), value() >> r.IntN(64),
				one("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ")})
		}
		p.Syscalls = append(p.Syscalls, c)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCompile(t *testing.T) {
	for _, test := range []struct {
		name, profile string
		call          string
		arg0          uint64
		want          string
	}{
		{"default errno", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"read","action":"SCMP_ACT_ALLOW"}]}`, "getpid", 0, "ENOSYS"},
		{"known and denied", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["openat"],"action":"SCMP_ACT_ALLOW"}]}`, "getpid", 0, "EPERM"},
		{"errno by name", `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EACCES","defaultErrnoRet":1,"syscalls":[{"names":["openat"],"action":"SCMP_ACT_ALLOW"}]}`, "getpid", 0, "EACCES"},
		{"unconditional wins", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["dup"],"action":"SCMP_ACT_ERRNO","errnoRet":5,"args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]},{"names":["dup"],"action":"SCMP_ACT_ALLOW"}]}`, "dup", 7, "allow"},
		{"the stricter wins", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["dup"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"SCMP_CMP_GE"}]},{"names":["dup"],"action":"SCMP_ACT_ERRNO","errnoRet":5,"args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]}]}`, "dup", 7, "EIO"},
		{"one argument twice is or", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["dup"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"},{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}`, "dup", 8, "EPERM"},
		{"newer is allowed by default", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}`, "listns", 0, "allow"},
	} {
		f, err := Compile([]byte(test.profile), Options{Arch: "amd64"})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		got := outcome(t, f.Code, call{auditAMD64, number(t, "amd64", test.call), [6]uint64{test.arg0}})
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for _, test := range []struct{ profile, want string }{
		{`{`, "unexpected end of JSON input"},
		{`{}`, "defaultAction: no action given"},
		{`{"defaultAction":"SCMP_ACT_NOTIFY"}`, "defaultAction: SCMP_ACT_NOTIFY: sbx runs no agent that would answer"},
		{`{"defaultAction":"ALLOW"}`, `defaultAction: action "ALLOW": unknown`},
		{`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EWHAT"}`, `defaultAction: errno "EWHAT": unknown`},
		{`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}`, "defaultAction: errnoRet 5000: larger than 4095"},
		{`{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}`, `flags: "SECCOMP_FILTER_FLAG_NEW_LISTENER": unknown`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}`, "architectures: a profile has either architectures or archMap"},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[null]}`, "syscalls[0] (): no action given"},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}`, "syscalls[0] (b, a): an entry has either name or names"},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}`, "syscalls[0] (read): argument 6: a call has six, from 0 to 5"},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":1,"op":"EQ"}]}]}`, `syscalls[0] (read): operator "EQ": unknown`},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","includes":{"minKernel":"new"}}]}`, `syscalls[0] (read): minKernel "new": want a release such as 4.8`},
		{strings.Repeat(" ", maxProfile+1), "larger than 1048576 bytes"},
		{tooLong(), "more than 4096 instructions"},
	} {
		_, err := Compile([]byte(test.profile), Options{Arch: "amd64"})
		if err == nil || err.Error() != test.want {
			t.Errorf("%.200s: %v, want %s", test.profile, err, test.want)
		}
	}
	var part *ProfileError
	if _, err := Compile([]byte(`{}`), Options{Arch: "amd64"}); !errors.As(err, &part) {
		t.Errorf("%T, want a ProfileError", err)
	}
	if _, err := Compile(docker, Options{Arch: "riscv64"}); err == nil {
		t.Error("riscv64 has a table")
	}
}

func tooLong() string {
	var b strings.Builder
	b.WriteString(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[`)
	for i := range 3000 {
		fmt.Fprintf(&b, `{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":%d,"op":"SCMP_CMP_EQ"}]},`, i)
	}
	b.WriteString(`{"names":["write"],"action":"SCMP_ACT_ALLOW"}]}`)
	return b.String()
}

func FuzzCompile(f *testing.F) {
	f.Add(docker)
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_TRAP","syscalls":[{"names":["dup"],"action":"SCMP_ACT_TRACE","args":[{"index":3,"value":18446744073709551615,"op":"SCMP_CMP_MASKED_EQ"}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, o := range []Options{{Arch: "amd64", Compat32: true}, {Arch: "arm64", Caps: allCaps}} {
			filter, err := Compile(text, o)
			if err != nil {
				continue
			}
			for nr := range uint32(500) {
				for _, arch := range []uint32{auditAMD64, audit386, auditARM64} {
					if _, _, err := run(filter.Code, call{arch: arch, nr: nr}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

// TestPodman compiles the profile that the host's Podman uses, where there is one.
func TestPodman(t *testing.T) {
	text, err := os.ReadFile("/usr/share/containers/seccomp.json")
	if err != nil && os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	sameAsNaive(t, text, Options{Arch: "amd64", Kernel: Kernel{6, 18}, Caps: 0x800405fb, Compat32: true})
}
