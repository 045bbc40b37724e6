package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Options say for what a profile is compiled.
type Options struct {
	Arch     string // as GOARCH: amd64, arm64
	Caps     uint64 // the bounding set: rules may depend on it
	Kernel   Kernel // of the host, for minKernel; zero is newer than any
	Compat32 bool   // let the 32-bit calls through where the profile lists their architecture
}

// Kernel is a release as far as profiles look at it: 6.18.
type Kernel struct{ Major, Minor int }

func (k Kernel) atLeast(other Kernel) bool {
	return k == Kernel{} || k.Major > other.Major || k.Major == other.Major && k.Minor >= other.Minor
}

// A Filter is a seccomp program, ready for seccomp(2).
type Filter struct {
	Code  []byte // struct sock_filter[]; empty: load nothing
	Flags uint   // SECCOMP_FILTER_FLAG_*
}

// Len is the number of instructions.
func (f Filter) Len() int { return len(f.Code) / 8 }

// A ProfileError says which part of a profile cannot be compiled.
type ProfileError struct {
	Part string // "defaultAction", "syscalls[3] (socket)", ...
	Err  error
}

func (e *ProfileError) Error() string { return e.Part + ": " + e.Err.Error() }
func (e *ProfileError) Unwrap() error { return e.Err }

// maxProfile bounds a user's profile; the longest in use have about 30 KiB.
const maxProfile = 1 << 20

// Compile makes a filter of a profile, the JSON of the OCI runtime specification
// with the extensions of Docker and Podman (archMap, includes, excludes, errno).
// It means what it means to runc; names of calls that no table knows are ignored.
func Compile(text []byte, o Options) (Filter, error) {
	p, err := parseProfile(text)
	if err != nil {
		return Filter{}, err
	}
	return p.compile(o, nil)
}

// A profile is the file's JSON.
type profile struct {
	DefaultAction   string        `json:"defaultAction"`
	DefaultErrnoRet *uint32       `json:"defaultErrnoRet"`
	DefaultErrno    string        `json:"defaultErrno"` // Podman's: a name
	Architectures   []string      `json:"architectures"`
	ArchMap         []profileArch `json:"archMap"`
	Flags           []string      `json:"flags"`
	Syscalls        []profileCall `json:"syscalls"`
}

type profileArch struct {
	Architecture     string   `json:"architecture"`
	SubArchitectures []string `json:"subArchitectures"`
}

type profileCall struct {
	Name     string           `json:"name"` // before Docker 1.13
	Names    []string         `json:"names"`
	Action   string           `json:"action"`
	ErrnoRet *uint32          `json:"errnoRet"`
	Errno    string           `json:"errno"`
	Args     []profileArg     `json:"args"`
	Includes profileCondition `json:"includes"`
	Excludes profileCondition `json:"excludes"`
}

type profileArg struct {
	Index    uint32 `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo"`
	Op       string `json:"op"`
}

type profileCondition struct {
	Caps      []string `json:"caps"`
	Arches    []string `json:"arches"`
	MinKernel string   `json:"minKernel,omitempty"`
}

func parseProfile(text []byte) (profile, error) {
	var p profile
	if len(text) > maxProfile {
		return p, fmt.Errorf("larger than %d bytes", maxProfile)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, err
	}
	if len(p.Architectures) > 0 && len(p.ArchMap) > 0 {
		return p, &ProfileError{"architectures", errors.New("a profile has either architectures or archMap")}
	}
	return p, nil
}

func (p *profile) compile(o Options, more []layer) (Filter, error) {
	native, err := machineOf(o.Arch)
	if err != nil {
		return Filter{}, err
	}
	flags, err := flagsOf(p.Flags)
	if err != nil {
		return Filter{}, &ProfileError{"flags", err}
	}
	v, err := p.verdicts(native, o, more)
	if err != nil {
		return Filter{}, err
	}
	code, err := assemble(v, p.machines(native, o.Compat32))
	return Filter{Code: code, Flags: flags}, err
}

// machines are the native one and, asked for and listed, its 32-bit companion.
// The profile need not list the native one: libseccomp always adds it.
func (p *profile) machines(native machine, compat32 bool) []machine {
	all := []machine{native}
	second, err := machineOf(native.secondary)
	if err != nil || !compat32 {
		return all
	}
	listed := p.Architectures
	for _, a := range p.ArchMap {
		if a.Architecture == native.profile {
			listed = a.SubArchitectures
		}
	}
	if slices.Contains(listed, second.profile) {
		all = append(all, second)
	}
	return all
}

// verdicts are the profile's, under o, with the layers over it.
func (p *profile) verdicts(native machine, o Options, more []layer) (*verdicts, error) {
	v := &verdicts{calls: map[string]verdict{}, mentions: map[string]bool{}}
	var err error
	if v.last, err = action(p.DefaultAction, p.DefaultErrnoRet, p.DefaultErrno); err != nil {
		return nil, &ProfileError{"defaultAction", err}
	}
	for i := range p.Syscalls {
		c := &p.Syscalls[i]
		names := c.Names
		if c.Name != "" {
			names = append(names, c.Name)
		}
		rules, active, err := c.rules(native, o)
		if err != nil {
			return nil, &ProfileError{fmt.Sprintf("syscalls[%d] (%.60s)", i, strings.Join(names, ", ")), err}
		}
		for _, name := range names {
			v.mentions[name] = true
			if !active {
				continue
			}
			for _, r := range rules {
				v.add(name, r)
			}
		}
	}
	v.settle()
	for _, l := range more {
		l.apply(v, o.Caps)
	}
	return v, nil
}

// rules returns what the entry says, and whether its conditions hold.
func (c *profileCall) rules(native machine, o Options) ([]rule, bool, error) {
	if c.Name != "" && len(c.Names) > 0 {
		return nil, false, errors.New("an entry has either name or names")
	}
	act, err := action(c.Action, c.ErrnoRet, c.Errno)
	if err != nil {
		return nil, false, err
	}
	tests, err := testsOf(c.Args)
	if err != nil {
		return nil, false, err
	}
	active, err := c.applies(native, o)
	if err != nil {
		return nil, false, err
	}
	if !repeats(tests) {
		return []rule{{act, tests}}, active, nil
	}
	// Two conditions on one argument: runc, as before libseccomp 2.2, makes
	// each condition of the entry a rule of its own.
	var rules []rule
	for _, t := range tests {
		rules = append(rules, rule{act, []test{t}})
	}
	return rules, active, nil
}

func (c *profileCall) applies(native machine, o Options) (bool, error) {
	in, out := c.Includes, c.Excludes
	inKernel, err := kernelAtLeast(o.Kernel, in.MinKernel, true)
	if err != nil {
		return false, err
	}
	outKernel, err := kernelAtLeast(o.Kernel, out.MinKernel, false)
	if err != nil {
		return false, err
	}
	has := func(name string) bool { return capMask(name)&o.Caps != 0 }
	switch {
	case outKernel, slices.Contains(out.Arches, native.condition), slices.ContainsFunc(out.Caps, has):
		return false, nil
	case !inKernel, len(in.Arches) > 0 && !slices.Contains(in.Arches, native.condition):
		return false, nil
	}
	for _, name := range in.Caps {
		if !has(name) {
			return false, nil
		}
	}
	return true, nil
}

func kernelAtLeast(k Kernel, text string, unset bool) (bool, error) {
	if text == "" {
		return unset, nil
	}
	major, minor, _ := strings.Cut(text, ".")
	a, errA := strconv.ParseUint(major, 10, 8)
	b, errB := strconv.ParseUint(minor, 10, 8)
	if errA != nil || errB != nil {
		return false, fmt.Errorf("minKernel %q: want a release such as 4.8", text)
	}
	return k.atLeast(Kernel{int(a), int(b)}), nil
}

func testsOf(args []profileArg) ([]test, error) {
	var tests []test
	for _, a := range args {
		if a.Index > 5 {
			return nil, fmt.Errorf("argument %d: a call has six, from 0 to 5", a.Index)
		}
		op, ok := operatorOf(a.Op)
		if !ok {
			return nil, fmt.Errorf("operator %q: unknown", a.Op)
		}
		tests = append(tests, test{int(a.Index), op, a.Value, a.ValueTwo})
	}
	return tests, nil
}

func repeats(tests []test) bool {
	var seen [6]bool
	for _, t := range tests {
		if seen[t.arg] {
			return true
		}
		seen[t.arg] = true
	}
	return false
}

func operatorOf(name string) (operator, bool) {
	switch name {
	case "SCMP_CMP_NE":
		return opArgNE, true
	case "SCMP_CMP_LT":
		return opArgLT, true
	case "SCMP_CMP_LE":
		return opArgLE, true
	case "SCMP_CMP_EQ":
		return opArgEQ, true
	case "SCMP_CMP_GE":
		return opArgGE, true
	case "SCMP_CMP_GT":
		return opArgGT, true
	case "SCMP_CMP_MASKED_EQ":
		return opArgMasked, true
	}
	return 0, false
}

// action returns what the kernel is to do; errnoRet, for ERRNO and TRACE, is EPERM if not given.
func action(name string, errnoRet *uint32, errnoName string) (uint32, error) {
	switch name {
	case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD":
		return actKillThread, nil
	case "SCMP_ACT_KILL_PROCESS":
		return actKillProcess, nil
	case "SCMP_ACT_TRAP":
		return actTrap, nil
	case "SCMP_ACT_ALLOW":
		return actAllow, nil
	case "SCMP_ACT_LOG":
		return actLog, nil
	case "SCMP_ACT_ERRNO":
		n, err := errnoOf(errnoRet, errnoName, 4095) // MAX_ERRNO: the kernel would clamp it
		return actErrno | n, err
	case "SCMP_ACT_TRACE":
		n, err := errnoOf(errnoRet, errnoName, 65535)
		return actTrace | n, err
	case "SCMP_ACT_NOTIFY":
		return 0, errors.New("SCMP_ACT_NOTIFY: sbx runs no agent that would answer")
	case "":
		return 0, errors.New("no action given")
	}
	return 0, fmt.Errorf("action %q: unknown", name)
}

func errnoOf(number *uint32, name string, most uint32) (uint32, error) {
	switch {
	case name != "":
		for n := uint32(1); n < 256; n++ {
			if unix.ErrnoName(syscall.Errno(n)) == name {
				return n, nil
			}
		}
		return 0, fmt.Errorf("errno %q: unknown", name)
	case number == nil:
		return eperm, nil
	case *number > most:
		return 0, fmt.Errorf("errnoRet %d: larger than %d", *number, most)
	}
	return *number, nil
}

// defaultFlags keep a filter from switching off speculative stores, which before
// Linux 5.16 it did, at a high price. runc has the same default.
const defaultFlags = unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW

// flagsOf returns the flags; nil names, unlike none, are the default.
func flagsOf(names []string) (uint, error) {
	if names == nil {
		return defaultFlags, nil
	}
	var flags uint
	for _, name := range names {
		switch name {
		case "SECCOMP_FILTER_FLAG_TSYNC": // one thread loads the filter, and then becomes the command
		case "SECCOMP_FILTER_FLAG_LOG":
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case "SECCOMP_FILTER_FLAG_SPEC_ALLOW":
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		default:
			return 0, fmt.Errorf("%q: unknown", name)
		}
	}
	return flags, nil
}
